"""Commands of ``mlops data``."""
