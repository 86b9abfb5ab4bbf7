"""Finds what a repository uses of version 1 of Azure ML's SDK, and of what was retired since."""
