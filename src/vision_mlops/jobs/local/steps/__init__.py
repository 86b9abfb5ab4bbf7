"""Steps: their commands, processes, and results that need not be made again."""
