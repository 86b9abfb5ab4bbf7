"""``mlops benchmark``: contestants on the images of a workload."""
