"""Where a model to serve is found: in the folder that is named, or where Azure ML mounts a registered one."""

from __future__ import annotations

import os
from pathlib import Path

from vision_mlops.core.errors import BundleError
from vision_mlops.model.bundle import MANIFEST

BUNDLE_VARIABLE = "MLOPS_BUNDLE"
AZURE_VARIABLE = "AZUREML_MODEL_DIR"


def bundle_root() -> Path:
    """Return the folder that the environment names: MLOPS_BUNDLE, or AZUREML_MODEL_DIR if that is unset or missing.

    Raises:
        BundleError: neither is set.
    """
    ours, azure = os.environ.get(BUNDLE_VARIABLE), os.environ.get(AZURE_VARIABLE)
    if ours and (not azure or Path(ours).exists()):
        return Path(ours)
    if not azure:
        raise BundleError("no bundle to serve", f"name one, or set {BUNDLE_VARIABLE} to its folder")
    return Path(azure)


def mounted_model() -> tuple[Path, str, str]:
    """Return the bundle that Azure ML mounted, and name and version of its registration, empty if unknown.

    Raises:
        BundleError: the variable is not set, or its folder does not hold one bundle.
    """
    root = os.environ.get(AZURE_VARIABLE)
    if not root:
        raise BundleError(f"{AZURE_VARIABLE} is not set", "give the folder of the bundle in it")
    return (find_bundle(Path(root)), *registered_as(Path(root)))


def find_bundle(root: Path) -> Path:
    """Return the bundle in a folder, at its top or, as a registered model is mounted, up to two folders below.

    Raises:
        BundleError: there is none, or more than one.
    """
    found = [root] if (root / MANIFEST).is_file() else [path.parent for path in sorted(root.glob(f"*/{MANIFEST}"))]
    found = found or [path.parent for path in sorted(root.glob(f"*/*/{MANIFEST}"))]
    if len(found) != 1:
        what = "no model bundle" if not found else f"{len(found)} model bundles: " + ", ".join(map(str, found[:3]))
        raise BundleError(
            f"{root} contains {what}", "name the folder of one bundle, such as the --out of `mlops train`"
        )
    return found[0]


def registered_as(root: Path) -> tuple[str, str]:
    """Name and version of a model that Azure ML mounted at ``azureml-models/NAME/VERSION``; else empty."""
    parts = root.parts
    if len(parts) >= 3 and parts[-3] == "azureml-models":
        return parts[-2], parts[-1]
    return "", ""
