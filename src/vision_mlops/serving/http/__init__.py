"""HTTP of the scoring server."""
