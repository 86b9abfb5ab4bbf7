"""Azure Custom Vision as a contestant, by its REST interfaces: training v3.3 and prediction v3.1."""
