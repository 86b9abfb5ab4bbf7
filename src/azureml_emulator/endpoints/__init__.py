"""Online and batch endpoints, and the processes behind their deployments."""
