"""Metrics, log and traces of the scoring server."""
