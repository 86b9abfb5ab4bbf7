"""Azure: the only package that creates credentials and management clients."""
