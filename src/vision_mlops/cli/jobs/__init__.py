"""Commands that run jobs and pipelines."""
