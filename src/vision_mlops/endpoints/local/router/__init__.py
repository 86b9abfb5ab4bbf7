"""The router of an endpoint on this machine: a stable port in front of one scoring server for each deployment."""
