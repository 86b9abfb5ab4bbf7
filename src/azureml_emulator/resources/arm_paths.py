"""Paths of Azure Resource Manager: how they are built, and their fixed parts."""

from __future__ import annotations

from azureml_emulator.rest.cloud_addresses import LOCATION

__all__ = ["GROUP", "LOCATION", "PROVIDER", "SCOPE", "SUBSCRIPTION", "WORKSPACE"]

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "rg"
PROVIDER = "providers/Microsoft.MachineLearningServices"
SCOPE = "/subscriptions/{subscription}/resourceGroups/{group}/" + PROVIDER
"""Path of everything of Azure ML in a resource group, as a route."""
WORKSPACE = SCOPE + "/workspaces/{workspace}"
"""Path of a workspace, as a route."""
