"""Parallel steps: an entry script over mini-batches."""
