"""Azure DevOps and GitHub: start and set up their pipelines, and report results to them."""
