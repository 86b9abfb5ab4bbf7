"""The model registry on Azure Machine Learning."""
