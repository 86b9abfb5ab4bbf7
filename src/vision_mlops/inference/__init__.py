"""Images to class probabilities from a bundle, without torch: the only predictor there is."""
