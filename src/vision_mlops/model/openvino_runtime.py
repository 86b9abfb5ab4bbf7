"""Imports OpenVINO only where it is needed: that takes a second, and not every installation has it."""

from __future__ import annotations

from typing import Any

from vision_mlops.core import library_settings
from vision_mlops.core.errors import MissingExtraError


def load_openvino() -> Any:
    """Import ``openvino`` without reports about its use. Raises MissingExtraError if it is not installed."""
    library_settings.apply()
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "serve") from error
    return openvino
