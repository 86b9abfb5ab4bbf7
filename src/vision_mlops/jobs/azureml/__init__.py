"""Jobs on Azure Machine Learning."""
