"""Azure ML v2 definitions: read strictly, checked before anything runs. Nothing here imports the SDK."""
