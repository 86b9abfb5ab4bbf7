"""Serving a bundle: the scoring server, and the processes that run it."""
