"""Containers of this machine, which steps of jobs and endpoints run in."""
