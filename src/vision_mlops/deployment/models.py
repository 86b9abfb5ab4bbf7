"""The model that a server answers with: a bundle, loaded and verified, with the name it goes by."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vision_mlops.exceptions import BundleError
from vision_mlops.inference.predictor import Predictor

Precision = Literal["auto", "f32"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Which bundle to serve, and how. An empty name means the bundle's own."""

    bundle: Path
    name: str = ""
    version: str = ""
    precision: Precision = "auto"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded bundle under its name; a request keeps the one that it began with, also over a swap."""

    predictor: Predictor
    name: str
    version: str

    def describe(self) -> dict[str, Any]:
        """What answers say about the model."""
        return {"name": self.name, "version": self.version, "id": self.predictor.id}


def load_model(source: ModelSource) -> ServedModel:
    """Load a bundle, verify its hashes and golden examples, and so warm it up.

    With precision ``auto`` the processor's fastest precision is taken where it reproduces the golden examples, else f32.

    Raises:
        BundleError: the bundle is broken, was changed, or does not reproduce its golden examples.
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        predictor = Predictor(source.bundle, threads=source.threads, precision=source.precision)
    except BundleError as error:
        if source.precision == "f32":
            raise
        predictor = Predictor(source.bundle, threads=source.threads, precision="f32")
        _LOG.warning("serving with 32-bit floats: %s", error.message)
    return ServedModel(predictor, source.name or predictor.bundle.name, source.version)
