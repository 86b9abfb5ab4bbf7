"""A registered model where Azure ML puts it: the bundle in AZUREML_MODEL_DIR, and the name and version it goes by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vision_mlops.exceptions import BundleError
from vision_mlops.model.bundle import MANIFEST

VARIABLE = "AZUREML_MODEL_DIR"


def mounted_model(environ: Mapping[str, str] | None = None) -> tuple[Path, str, str]:
    """The bundle that Azure ML mounted, and the name and version of its registration; these are empty where unknown.

    Raises:
        BundleError: the variable is not set, or its folder does not hold one bundle.
    """
    root = (os.environ if environ is None else environ).get(VARIABLE)
    if not root:
        raise BundleError(f"{VARIABLE} is not set", "give the folder of the bundle in it")
    return (find_bundle(Path(root)), *registered_as(Path(root)))


def find_bundle(root: Path) -> Path:
    """The bundle in a folder, at its top or, as a registered model is mounted, up to two folders below.

    Raises:
        BundleError: there is none, or more than one.
    """
    found = [root] if (root / MANIFEST).is_file() else [path.parent for path in sorted(root.glob(f"*/{MANIFEST}"))]
    found = found or [path.parent for path in sorted(root.glob(f"*/*/{MANIFEST}"))]
    if len(found) != 1:
        what = "no model bundle" if not found else f"{len(found)} model bundles: " + ", ".join(map(str, found[:3]))
        raise BundleError(f"{root} holds {what}", "name the folder of one bundle, such as the --out of `mlops train`")
    return found[0]


def registered_as(root: Path) -> tuple[str, str]:
    """Name and version of a model that Azure ML mounted at ``azureml-models/NAME/VERSION``; else empty."""
    parts = root.parts
    if len(parts) >= 3 and parts[-3] == "azureml-models":
        return parts[-2], parts[-1]
    return "", ""
