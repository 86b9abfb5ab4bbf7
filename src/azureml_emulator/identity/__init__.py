"""Tokens, the sign-in service, and a key vault."""
