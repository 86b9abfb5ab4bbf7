"""Where a server finds its bundle: in the folder that is named, or as Azure ML mounts a registered model."""

from __future__ import annotations

import os
from pathlib import Path

from vision_mlops.exceptions import BundleError
from vision_mlops.model.mounted import find_bundle, registered_as

__all__ = ["AZURE_VARIABLE", "BUNDLE_VARIABLE", "bundle_root", "find_bundle", "registered_as"]

BUNDLE_VARIABLE = "MLOPS_BUNDLE"
AZURE_VARIABLE = "AZUREML_MODEL_DIR"


def bundle_root() -> Path:
    """The folder that the environment names: MLOPS_BUNDLE, or AZUREML_MODEL_DIR where that is unset or not there.

    Raises:
        BundleError: neither is set.
    """
    ours, azure = os.environ.get(BUNDLE_VARIABLE), os.environ.get(AZURE_VARIABLE)
    if ours and (not azure or Path(ours).exists()):
        return Path(ours)
    if not azure:
        raise BundleError("no bundle to serve", f"name one, or set {BUNDLE_VARIABLE} to its folder")
    return Path(azure)
