"""Computes of a workspace: clusters and compute instances, which are created, started and stopped."""
