"""The images that probes send: those of a folder, or the golden examples of both models."""

from __future__ import annotations

import hashlib
import mimetypes
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import DeploymentError
from vision_mlops.data.image_files import images_below
from vision_mlops.data.manifest import MANIFEST, read_manifest
from vision_mlops.model.bundle import read_bundle

_MOST = 1000
"""More images would add no information."""


@dataclass(frozen=True, slots=True)
class ProbeImage:
    """An image file. ``kind`` is its media type."""

    path: Path
    kind: str


def folder_images(folder: Path) -> list[ProbeImage]:
    """Return images of a folder in mixed order: of prepared data those of its test split, else all below it, at most 1000.

    Raises:
        DeploymentError: there are none.
    """
    if (folder / MANIFEST).is_file():
        files = [folder / record.path for record in read_manifest(folder).images if record.split == "test"]
    else:
        files, _ = images_below(folder)
    if not files:
        problem = "the folder has no images" if folder.exists() else "the folder does not exist"
        raise DeploymentError(f"--images {folder}: {problem}", "give a folder of images, or prepared data")
    random.Random(0).shuffle(files)  # otherwise they would be sorted by class
    return [_image(path) for path in files[:_MOST]]


def golden_images(bundles: Iterable[Path]) -> list[ProbeImage]:
    """Return the golden examples of bundles, each content once.

    Raises:
        DeploymentError: they have none.
        BundleError: a bundle is damaged.
    """
    found: dict[str, ProbeImage] = {}
    for folder in bundles:
        for example in read_bundle(folder).golden:
            image = _image(folder / example.file)
            found.setdefault(hashlib.sha256(image.path.read_bytes()).hexdigest(), image)
    if not found:
        raise DeploymentError("the models have no golden examples to probe with", "give --images FOLDER")
    images = list(found.values())
    random.Random(0).shuffle(images)
    return images


def _image(path: Path) -> ProbeImage:
    return ProbeImage(path, mimetypes.guess_type(path.name)[0] or "application/octet-stream")
