"""Contestants that learn on this machine and need no account."""
