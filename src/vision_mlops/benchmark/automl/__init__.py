"""The contestant that Azure Machine Learning's AutoML for images trains."""
