"""Images on disk: sources, leak-free splits and the manifest of a prepared folder."""
