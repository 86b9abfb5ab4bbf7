"""What the scoring server tells about itself."""
