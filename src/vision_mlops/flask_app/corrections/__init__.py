"""Corrections by people: the right label of an image, kept until the next version of the data includes it."""
