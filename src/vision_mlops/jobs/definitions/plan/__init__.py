"""What a definition runs, with every binding resolved."""
