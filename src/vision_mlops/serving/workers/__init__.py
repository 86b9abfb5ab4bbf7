"""Processes of the scoring server."""
