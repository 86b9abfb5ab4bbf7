"""Checks of Azure before anything is created there: sign-in, subscription, roles, quota, names, and access."""
