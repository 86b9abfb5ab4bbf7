"""Where the inputs of steps come from."""
