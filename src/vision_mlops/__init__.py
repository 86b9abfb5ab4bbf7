"""End-to-end image classification: the same definitions train, gate and serve on a laptop and on Azure."""

__version__ = "0.1.0"
