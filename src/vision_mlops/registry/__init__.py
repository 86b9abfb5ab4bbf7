"""The model registry: register, find, compare and promote bundles, and explain where a version came from."""

from __future__ import annotations

from vision_mlops.registry.base import CHAMPION, ModelVersion, Reference, Registry, compare, parse_reference

__all__ = ["CHAMPION", "ModelVersion", "Reference", "Registry", "compare", "open_registry", "parse_reference"]


def open_registry() -> Registry:
    """The registry of this environment: MLflow's, in the tracking store. Touches no disk before it is used."""
    from vision_mlops.registry.mlflow_registry import MlflowRegistry

    return MlflowRegistry()
