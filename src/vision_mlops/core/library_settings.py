"""What libraries are told before they are imported: to write below the home folder only, and not to report their use."""

from __future__ import annotations

import os
import sys

from vision_mlops.core import paths

CACHES = {
    "MPLCONFIGDIR": "matplotlib",  # list of fonts
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",  # otherwise a folder for temporary files, made by importing Lightning
    "TORCH_HOME": "torch",  # downloaded weights, as in the next two
    "HF_HUB_CACHE": "huggingface/hub",
    "HF_XET_CACHE": "huggingface/xet",
}
"""Folders below ``cache/`` of the home folder, by the variable that a library reads."""

_NO_REPORTS = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def apply() -> None:
    """Set the variables that are not set, and take OpenVINO's telemetry away from OpenVINO and NNCF.

    Each process needs it before the first import of such a library; what a user has set stays. The telemetry of OpenVINO has
    no variable: it writes an id below the user's home folder and calls an analytics service, unless it is not installed.
    """
    caches = paths.home() / "cache"
    for variable, folder in CACHES.items():
        os.environ.setdefault(variable, str(caches / folder))
    for variable, value in _NO_REPORTS.items():
        os.environ.setdefault(variable, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what imports it is told it is missing
