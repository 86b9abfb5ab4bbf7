"""The model of a server: a bundle, loaded and verified, with the name that responses give it."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vision_mlops.model.bundle import read_evaluation
from vision_mlops.model.predictor import Precision, Predictor, load_predictor
from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.http.scoring_requests import check_keys, read_json

OTHER_CLASSES = "other_classes"
"""Code of the response where a reload would change the classes and does not say that it may."""
_REFERENCE = re.compile(r"[\w.-]{1,100}[@:][\w.-]{1,100}")
"""Of a registered version, which the registry knows and the server does not."""


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
    evaluation: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """Return what responses say about the model."""
        return {"name": self.name, "version": self.version, "id": self.predictor.id}

    def describe_fully(self) -> dict[str, Any]:
        """Return all that is known of the model: where it comes from, and how good it is."""
        bundle = self.predictor.bundle
        spec, quantization = bundle.preprocessing, bundle.quantization
        return self.describe() | {
            "title": str(bundle.workload.get("title") or ""),
            "classes": bundle.classes,
            "created": bundle.created,
            "backbone": bundle.backbone,
            "image_size": spec.image_size,
            "resize": spec.resize,
            "data_fingerprint": bundle.data_fingerprint,
            "git_commit": bundle.git_commit,
            "run_id": bundle.run_id,
            "libraries": bundle.libraries,
            "quantization": None if quantization is None else quantization.model_dump(),
            "metrics": bundle.metrics,
            "evaluation": self.evaluation,
        }


def load_model(source: ModelSource) -> ServedModel:
    """Load a bundle as :func:`~vision_mlops.model.predictor.load_predictor` does, and so warm it up.

    Raises:
        BundleError: the bundle is broken, was changed, or does not reproduce its golden examples.
        MissingExtraError: OpenVINO is not installed.
    """
    predictor = load_predictor(source.bundle, threads=source.threads, precision=source.precision)
    evaluation = read_evaluation(source.bundle, predictor.bundle)
    return ServedModel(predictor, source.name or predictor.bundle.name, source.version, evaluation)


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """The model that a server is asked to swap to, and whether it may have other classes than the current one."""

    source: ModelSource
    other_classes: bool = False


def read_reload(body: bytes, current: ModelSource) -> ReloadRequest:
    """Read what a reload asks for.

    Args:
        body: JSON with ``bundle`` (a folder on the server), ``name``, ``version`` and ``other_classes``, each optional.
        current: What is served, and goes for what is not said.

    Raises:
        RequestError: 400, it is something else; 422, a key is not known, or the folder is not there.
    """
    content = read_json(body, "") if body else {}
    kinds: dict[str, type] = {"bundle": str, "name": str, "version": str, "other_classes": bool}
    if isinstance(content, dict):
        check_keys(content, kinds)
    if not isinstance(content, dict) or not all(isinstance(value, kinds[name]) for name, value in content.items()):
        form = '{"bundle": FOLDER, "name": NAME, "version": VERSION, "other_classes": false}, each of them optional'
        raise RequestError(400, "bad_json", f"JSON must be {form}")
    other_classes = content.pop("other_classes", False)
    if "bundle" not in content:
        return ReloadRequest(replace(current, **content), other_classes)
    folder = content["bundle"]
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir() fails for a text that is too long
        reference = folder if _REFERENCE.fullmatch(folder) else "NAME@champion"
        raise RequestError(
            422, "bundle_refused",
            f"bundle {folder[:200]!r} is not a folder on the server: /admin/reload only accepts a folder, such as"
            f" `mlops models path {reference}` prints",
        )  # fmt: skip
    source = ModelSource(
        Path(folder), content.get("name", current.name), content.get("version", ""),
        current.precision, current.threads,
    )  # fmt: skip
    return ReloadRequest(source, other_classes)


def other_classes(old: ServedModel | None, new: ServedModel) -> str:
    """Return the problem where a model has other classes than the current one, which its users know; else ""."""
    if old is None:
        return ""
    before, after = set(old.predictor.classes), set(new.predictor.classes)
    changes = [
        f"{word} {', '.join(sorted(names)[:10])}"
        for word, names in (("without", before - after), ("with the new", after - before))
        if names
    ]
    if not changes:
        return ""
    return (
        f"the bundle has other classes than the model that is served: {' and '.join(changes)};"
        ' POST /admin/reload accepts it with "other_classes": true'
    )


def pack_source(source: ModelSource) -> dict[str, Any]:
    """Return a source as JSON, for another process."""
    return asdict(source) | {"bundle": str(source.bundle)}


def unpack_source(content: dict[str, Any]) -> ModelSource:
    """Return the source that :func:`pack_source` packed."""
    return ModelSource(**{**content, "bundle": Path(content["bundle"])})
