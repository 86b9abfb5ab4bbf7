"""What is wrong with a definition, found without running it."""
