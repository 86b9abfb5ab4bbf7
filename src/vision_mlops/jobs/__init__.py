"""Jobs by Azure ML v2 YAML: their definitions, an engine for this machine, and submission to Azure ML."""
