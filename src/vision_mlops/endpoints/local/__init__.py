"""Endpoints on this machine: a router in front of scoring servers."""
