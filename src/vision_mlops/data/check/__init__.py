"""What can be wrong with a folder of images before anything is trained on it."""
