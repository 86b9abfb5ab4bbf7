"""Azure Custom Vision as a contestant, through its REST interfaces: training v3.3 and prediction v3.1."""
