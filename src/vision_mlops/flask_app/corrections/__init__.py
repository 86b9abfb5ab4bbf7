"""What people say against the model: the right label of an image, kept until the next version of the data takes it in."""
