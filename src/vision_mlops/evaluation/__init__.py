"""How good a bundle is, a report that shows it, and the gate that decides on it."""
