"""What tests of container instances start from: two registered versions, their images in a registry, and the settings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image as Picture
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS

from azureml_emulator.container_groups.registry_images import RegistryImage
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.resources.arm_paths import SUBSCRIPTION
from vision_mlops.endpoints.inferencing_image import baked_image
from vision_mlops.registry import ModelVersion, open_registry

REGISTRY = "crloopback.azurecr.io"
_PROVIDERS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers"
IDENTITY = f"{_PROVIDERS}/Microsoft.ManagedIdentity/userAssignedIdentities/id-pull"
GROUPS = f"{_PROVIDERS}/Microsoft.ContainerInstance/containerGroups"
PULLERS = frozenset({IDENTITY})
CRASHING = (sys.executable, "-c", "print('no bundle in /model'); raise SystemExit(3)")
DEAF = (sys.executable, "-c", "print('listening to nobody', flush=True); import time; time.sleep(60)")


@dataclass(frozen=True)
class Given:
    """Two versions that differ in what they call blue, the pictures, and the bundles."""

    cloud: EmulatedCloud
    first: ModelVersion
    second: ModelVersion
    bundles: tuple[Path, Path]
    picture: Path
    label: str

    def image(self, version: ModelVersion) -> str:
        return baked_image(REGISTRY, version)

    def push(self, version: ModelVersion, *, bundle: Path | None = None, command: tuple[str, ...] = ()) -> str:
        """Put the image of a version into the registry."""
        name = self.image(version)
        own = self.bundles[version.version - 1]
        self.cloud.groups.images[name] = RegistryImage(None if command else bundle or own, command, PULLERS)
        return name


def given(cloud: EmulatedCloud, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Register two versions, push the image of the first, and set the settings."""
    bundles = (make_bundle(folder / "one"), make_bundle(folder / "two", swap=True))
    registry = open_registry()
    versions = [registry.register(bundle, "colours") for bundle in bundles]
    monkeypatch.setenv("MLOPS_AZURE_CONTAINER_REGISTRY", REGISTRY)
    monkeypatch.setenv("MLOPS_AZURE_PULL_IDENTITY", IDENTITY)
    monkeypatch.setenv("MLOPS_AZURE_KEY_VAULT", cloud.url)
    label, colour = next(iter(COLOURS.items()))
    picture = folder / "picture.png"
    Picture.new("RGB", (32, 32), colour).save(picture)
    made = Given(cloud, versions[0], versions[1], bundles, picture, label)
    made.push(made.first)
    return made
