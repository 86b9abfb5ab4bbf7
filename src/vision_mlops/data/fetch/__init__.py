"""Public datasets: download with resume, read archives safely, and lay images out as folders of classes."""
