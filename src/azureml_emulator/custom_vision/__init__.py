"""Custom Vision: accounts, the training and the prediction API, and a small classifier that really learns."""
