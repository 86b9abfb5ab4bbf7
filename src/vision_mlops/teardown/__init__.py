"""Removes what a workload made in Azure, after telling what that is, what it costs, and what of it idles."""
