"""Records of the predictions of a model."""
