"""Endpoints in containers of this machine."""
