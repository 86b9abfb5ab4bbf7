"""A Kubernetes cluster of the kubeconfig, such as Azure Kubernetes Service: manifests from one template, applied by its API.

An endpoint is the objects of ``scoring.yaml``. Nothing of Azure's SDK is used: the sign-in is that of the kubeconfig.
"""
