"""Runs the steps of a job on this machine."""
