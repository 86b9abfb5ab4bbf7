"""Sweeps: trials, how they are drawn, and when they are given up."""
