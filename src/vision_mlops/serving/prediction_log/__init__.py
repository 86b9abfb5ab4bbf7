"""Records of what the model has answered."""
