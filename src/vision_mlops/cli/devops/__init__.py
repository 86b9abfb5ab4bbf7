"""The commands of ``mlops devops``."""
