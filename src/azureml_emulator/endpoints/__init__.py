"""Online and batch endpoints, and what answers for their deployments."""
