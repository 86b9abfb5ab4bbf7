"""A Kubernetes cluster of the kubeconfig, such as Azure Kubernetes Service: manifests of one template, applied by its API.

An endpoint consists of the objects in ``scoring.yaml``. Azure's SDK is not used: the sign-in is that of the kubeconfig.
"""
