"""Checks of Azure before anything is made there: sign-in, subscription, roles, quota, names, and what has to be reached."""
