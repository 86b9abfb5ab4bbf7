"""Checks of this machine and of what the project uses, without importing anything heavy."""
