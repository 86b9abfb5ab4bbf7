"""Containers on this machine, in which endpoints and steps of jobs run."""
