"""Progressive rollout of a model version on any target that splits traffic: step by step, judged, and never left halfway."""
