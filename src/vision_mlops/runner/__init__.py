"""Runs Azure ML v2 jobs on this machine: each step a process of its own, reused where nothing that it depends on changed."""
