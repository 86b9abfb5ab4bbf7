"""Endpoints of Azure Machine Learning."""
