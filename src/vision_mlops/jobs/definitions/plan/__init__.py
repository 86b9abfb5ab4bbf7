"""What a definition runs, once every binding is followed."""
