"""Measures the quality of a bundle, reports it, and decides with the gate."""
