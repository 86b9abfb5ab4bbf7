"""Imports OpenVINO only where it is needed: that takes a second, and not every installation has it."""

from __future__ import annotations

from typing import Any

from vision_mlops.core import library_settings
from vision_mlops.core.errors import require


def load_openvino() -> Any:
    """The module ``openvino``, which reports nothing about its use. Raises MissingExtraError where it is not installed."""
    library_settings.apply()
    require("openvino")
    import openvino

    return openvino
