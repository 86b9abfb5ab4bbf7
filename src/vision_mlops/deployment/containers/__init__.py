"""Containers on this machine: the engine that runs them, the images, and what one endpoint keeps on disk."""
