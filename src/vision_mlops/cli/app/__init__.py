"""The commands of ``mlops app``."""
