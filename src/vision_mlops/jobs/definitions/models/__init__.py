"""Models of the Azure ML v2 YAML."""
