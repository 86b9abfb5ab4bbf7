"""What the steps of a job run in: this Python, a virtual environment with packages of their own, or a container."""
