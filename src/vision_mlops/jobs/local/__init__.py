"""Runs Azure ML v2 definitions on this machine."""
