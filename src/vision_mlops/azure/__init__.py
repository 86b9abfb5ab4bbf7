"""Azure Machine Learning: the only package where a credential or a management client is created."""
