"""Removes what a workload created in Azure, after reporting what that is, what it costs, and what is idle."""
