"""The Docker of a compute instance: Docker's own HTTP interface over processes that serve, without isolation."""
