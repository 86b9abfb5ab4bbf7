"""An index of what is registered here, in a file beside the bundles: readable within a millisecond, and without MLflow.

The registry writes it after each change. It serves only to warn of a bundle before it is served: what a reference such as
``textile@champion`` means, the registry alone decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.files import atomic_write
from vision_mlops.core.hashing import file_hash
from vision_mlops.model.bundle import MANIFEST
from vision_mlops.registry.model_versions import CHAMPION, HASH_TAG, ModelVersion

INDEX = "versions.json"
UNFIT = ("reject", "inconclusive")
"""Verdicts that do not let a version become the champion by itself."""


def write_index(name: str, versions: Iterable[ModelVersion]) -> None:
    """Write down all versions of a model."""
    rows = [
        {
            "name": version.name,
            "version": version.version,
            "sha256": _digest(version),
            "verdict": version.verdict,
            "aliases": version.aliases,
        }
        for version in versions
    ]
    atomic_write(_folder() / name / INDEX, json.dumps(rows, indent=2) + "\n")


def warning_about(version: ModelVersion, versions: Iterable[ModelVersion], what: str = "") -> str:
    """Say why a version should perhaps not be served; empty if there is no reason.

    Args:
        version: The version.
        versions: All versions of its model.
        what: Name of the version in the message; by default its reference.
    """
    what = what or version.reference
    judged = f"was judged {version.verdict!r} by the gate" if version.verdict in UNFIT else ""
    if CHAMPION in version.aliases:
        return f"{what} is the champion, {judged}" if judged else ""
    champion = next((each.reference for each in versions if CHAMPION in each.aliases), "")
    known = f"{version.name}@{CHAMPION} is {champion}" if champion else f"{version.name} has no champion"
    return f"{what} is not the champion{f' and {judged}' if judged else ''}; {known}"


def warning_about_folder(bundle: Path) -> str:
    """Say why the bundle in a folder should perhaps not be served, as far as this machine knows; empty if it may be."""
    manifest = bundle / MANIFEST
    models = [_read(file) for file in sorted(_folder().glob(f"*/{INDEX}"))] if manifest.is_file() else []
    if not any(models):
        return ""
    digest = file_hash(manifest)
    found = [
        warning_about(version, versions, f"{bundle} is {version.reference}, which")
        for versions in models
        for version in versions
        if _digest(version) == digest
    ]
    if found:
        return "" if "" in found else found[-1]
    own = _name_in(manifest)
    champion = next((each for rows in models for each in rows if each.name == own and CHAMPION in each.aliases), None)
    if champion is None:
        return ""
    return f"{bundle} is not registered, so no gate has judged it; {own}@{CHAMPION} is {champion.reference}"


def _folder() -> Path:
    return paths.home() / "models"


def _digest(version: ModelVersion) -> str:
    return str(version.tags.get(HASH_TAG, ""))


def _read(file: Path) -> list[ModelVersion]:
    """Return the versions in a file; none if it cannot be read, since that is no reason not to serve."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return [
            ModelVersion(
                row["name"],
                row["version"],
                tuple(row["aliases"]),
                verdict=row["verdict"],
                tags={HASH_TAG: row["sha256"]},
            )
            for row in rows
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _name_in(manifest: Path) -> str:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("name", "")) if isinstance(content, dict) else ""
