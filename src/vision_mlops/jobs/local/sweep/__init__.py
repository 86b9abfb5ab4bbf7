"""Sweeps: trials, how they are drawn, and when they are terminated early."""
