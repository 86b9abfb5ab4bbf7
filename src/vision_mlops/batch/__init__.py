"""Scoring of many images on the cores of this machine: resumable, with memory that does not grow, and in a given order."""
