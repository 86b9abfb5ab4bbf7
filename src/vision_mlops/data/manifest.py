"""The manifest of a prepared folder: one record per image, and the fingerprint that caching and lineage use."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vision_mlops.core.errors import DataError

MANIFEST = "manifest.json"
STATE = "prepare.json"
"""Beside the manifest: what the preparation was made of."""

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
UNSPLIT = "all"
"""Key of counts by split where images are not split."""


class DataRecord(BaseModel):
    """A record that is kept beside data, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageRecord(DataRecord):
    """One image: ``path`` is relative to the prepared folder, in POSIX form; sizes are in pixels as displayed."""

    path: str
    split: SplitName
    label: str
    sha256: str
    width: int
    height: int


class Excluded(DataRecord):
    """A source file that was left out, and why."""

    path: str
    reason: str
    message: str


class Manifest(DataRecord):
    """Content of ``manifest.json``. ``fingerprint`` hashes the images' records, not where they came from."""

    schema_version: int = 1
    name: str
    source: str
    seed: int
    classes: list[str]
    images: list[ImageRecord]
    excluded: list[Excluded] = []
    fingerprint: str = ""

    def computed_fingerprint(self) -> str:
        """Return the sha256 of classes and image records in sorted order."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for image in sorted(self.images, key=lambda record: record.path):
            digest.update(f"{image.path}\0{image.split}\0{image.label}\0{image.sha256}\n".encode())
        return digest.hexdigest()

    def of_split(self, split: SplitName) -> list[ImageRecord]:
        """Return the records of one split, sorted by path."""
        return sorted((image for image in self.images if image.split == split), key=lambda record: record.path)

    def counts(self) -> dict[SplitName, dict[str, int]]:
        """Count the images per split and class; classes without images count 0."""
        found = Counter((image.split, image.label) for image in self.images)
        return {split: {label: found[split, label] for label in self.classes} for split in SPLITS}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared folder and check its fingerprint.

    Raises:
        DataError: the folder was not prepared, or its manifest was edited.
    """
    path = folder / MANIFEST
    if not path.is_file():
        problem = f"is not prepared data: it has no {MANIFEST}" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {problem}", "run `mlops data prepare` first")
    try:
        manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{path}: not a valid manifest: {error}", "run `mlops data prepare` again") from error
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise DataError(f"{path}: the fingerprint does not match the records", "run `mlops data prepare` again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` with the computed fingerprint, and return the manifest as written."""
    complete = manifest.model_copy(update={"fingerprint": manifest.computed_fingerprint()})
    lines = [image.model_dump_json() for image in complete.images]
    head = complete.model_dump(exclude={"images"})
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2]
    # One line per image: a diff of two manifests then reads as a list of images.
    (folder / MANIFEST).write_text(text + ',\n "images": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n", encoding="utf-8")
    return complete
