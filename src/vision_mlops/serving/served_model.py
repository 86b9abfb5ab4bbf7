"""The model that a server answers with: a bundle, loaded and verified, with the name it goes by."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_mlops.model.predictor import Precision, Predictor, load_predictor
from vision_mlops.serving.http.scoring_requests import RequestError


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
    """Load a bundle as :func:`~vision_mlops.model.predictor.load_predictor` does, and so warm it up.

    Raises:
        BundleError: the bundle is broken, was changed, or does not reproduce its golden examples.
        MissingExtraError: OpenVINO is not installed.
    """
    predictor = load_predictor(source.bundle, threads=source.threads, precision=source.precision)
    return ServedModel(predictor, source.name or predictor.bundle.name, source.version)


def read_reload(body: bytes, current: ModelSource) -> ModelSource:
    """What a reload asks for: JSON with ``bundle`` (a folder on the server), ``name`` and ``version``, each optional.

    Raises:
        RequestError: 400, it is something else.
    """
    form = '{"bundle": FOLDER, "name": NAME, "version": VERSION}, each of them optional'
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        name in ("bundle", "name", "version") and isinstance(value, str) for name, value in content.items()
    ):
        raise RequestError(400, "bad_json", f"JSON must be {form}")
    if "bundle" not in content:
        return replace(current, **content)
    return ModelSource(
        Path(content["bundle"]), content.get("name", current.name), content.get("version", ""),
        current.precision, current.threads,
    )  # fmt: skip


def pack_source(source: ModelSource) -> dict[str, Any]:
    """A source as JSON, for another process."""
    return {"bundle": str(source.bundle), "name": source.name, "version": source.version,
            "precision": source.precision, "threads": source.threads}  # fmt: skip


def unpack_source(content: dict[str, Any]) -> ModelSource:
    """What :func:`pack_source` packed."""
    return ModelSource(**{**content, "bundle": Path(content["bundle"])})
