"""The commands of ``mlops models``."""
