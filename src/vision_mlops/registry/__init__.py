"""The model registry: register, find, compare and promote bundles, and explain where a version came from."""

from __future__ import annotations

from vision_mlops.registry.bundle_registry import Registry
from vision_mlops.registry.model_versions import (
    CHAMPION,
    ModelReference,
    ModelVersion,
    compare,
    parse_reference,
)
from vision_mlops.registry.registry_address import open_registry

__all__ = ["CHAMPION", "ModelReference", "ModelVersion", "Registry", "compare", "open_registry", "parse_reference"]
