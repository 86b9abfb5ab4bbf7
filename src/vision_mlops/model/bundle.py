"""The model bundle: one folder with everything serving needs, written once, hashed, and verified at each load.

``bundle.json`` describes it, ``model.onnx`` takes a uint8 image batch (N, S, S, 3) and gives ``probabilities`` (N, C)
and ``activation_map`` (N, C, h, w), ``weights.safetensors`` allows fine-tuning again, ``golden/`` holds test images with
the probabilities that training computed. ``evaluation.json`` is what the graph reached on the test images; bundles of older
releases have none.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_mlops.core.errors import BundleError
from vision_mlops.core.hashing import file_hash

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
GRAPH = "model.onnx"
WEIGHTS = "weights.safetensors"
CARD = "MODEL_CARD.md"
EVALUATION = "evaluation.json"
GOLDEN_TOLERANCE = 0.02


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Preprocessing(_Record):
    """How an image becomes the graph's input; normalisation is inside the graph."""

    image_size: Annotated[int, Field(ge=16, le=1024)]
    resize: Literal["squash", "crop"] = "squash"
    jpeg_scaling: bool = Field(
        False, description="In a bundle without a version: large JPEGs are decoded at reduced scale."
    )
    version: Literal[2, 3] | None = Field(
        None, description="Version of the way to the pixels; older bundles have none."
    )

    @property
    def pixels_version(self) -> Literal[0, 1, 2, 3]:
        """How images become pixels, as :func:`vision_mlops.images.decoding.load_pixels` takes it."""
        return self.version or (1 if self.jpeg_scaling else 0)


class Quantization(_Record):
    """How a bundle was made from another one by rounding its numbers, and what that cost."""

    precision: Literal["int8"]
    source_id: str = Field(description="Id of the bundle that it was made from.")
    calibration_images: int
    source_accuracy: float = Field(description="Share of the test images that the source gets right.")
    accuracy: float = Field(description="Share of the test images that this bundle gets right.")


class GoldenExample(_Record):
    """A test image and the probabilities that the trained network gave it, in the order of the classes."""

    file: str
    label: str
    probabilities: list[float]


class Bundle(_Record):
    """Content of ``bundle.json``."""

    schema_version: int = SCHEMA_VERSION
    name: str
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    classes: Annotated[list[str], Field(min_length=2)]
    preprocessing: Preprocessing
    backbone: str
    frozen_stages: int = 0
    temperature: float = Field(1.0, description="Divides the logits before softmax; applied inside the graph.")
    data_fingerprint: str
    git_commit: str = ""
    run_id: str = Field("", description="MLflow run that trained it.")
    workload: dict[str, object] = Field(default_factory=dict, description="The workload as trained.")
    own_code: dict[str, str] = Field(
        default_factory=dict, description="sha256 of the project's own code that the workload names, by file."
    )
    metrics: dict[str, float] = Field(default_factory=dict)
    parity: dict[str, float] = Field(default_factory=dict, description="Exported graph against trained network.")
    libraries: dict[str, str] = Field(default_factory=dict)
    golden: list[GoldenExample] = Field(default_factory=list)
    graph: str = Field(GRAPH, description="ONNX, or OpenVINO's own form (.xml with a .bin beside it).")
    quantization: Quantization | None = None
    files: dict[str, str] = Field(default_factory=dict, description="sha256 of each other file, by relative path.")


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Hash the files that lie in ``folder`` and write ``bundle.json`` beside them; returns it with hashes."""
    files = {
        path.relative_to(folder).as_posix(): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    complete = bundle.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return complete


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle: schema, file list and every hash.

    Raises:
        BundleError: says which file is missing, was changed, or is not understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        problem = f"is not a model bundle: it has no {MANIFEST}" if folder.exists() else "does not exist"
        raise BundleError(f"{folder} {problem}", "give the --out of `mlops train`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path}: schema version {version!r}; this release reads {SCHEMA_VERSION}",
                "use the release that wrote it, or train again",
            )
        bundle = Bundle.model_validate(content)
    except (ValueError, ValidationError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path}: not a valid bundle description: {error}", "train again") from error
    for name, expected in bundle.files.items():
        _check_file(folder, name, expected)
    for needed in (bundle.graph, *graph_weights(bundle), WEIGHTS):
        if needed not in bundle.files:
            raise BundleError(f"{path} does not list {needed}", "train again")
    return bundle


def read_evaluation(folder: Path, bundle: Bundle) -> dict[str, Any] | None:
    """Read the test results of the bundle's graph; None in a bundle of an older release. Raises BundleError."""
    if EVALUATION not in bundle.files:
        return None
    try:
        content = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder / EVALUATION} cannot be read: {error}", "copy the bundle again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{folder / EVALUATION} is not a JSON object", "copy the bundle again, or train again")
    return content


def _check_file(folder: Path, name: str, expected: str) -> None:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise BundleError(
            f"{folder}: {name!r} points outside the bundle",
            "do not use this bundle: copy it again from where it was trained",
        )
    if not file.is_file():
        raise BundleError(f"{folder}: {name} is missing", "copy the bundle again, or train again")
    if file_hash(file) != expected:
        raise BundleError(
            f"{folder}: {name} was changed after training (its sha256 differs)", "copy the bundle again, or train again"
        )


def graph_weights(bundle: Bundle) -> tuple[str, ...]:
    """Return the files beside the graph that hold its numbers: none for ONNX."""
    return (f"{bundle.graph.removesuffix('.xml')}.bin",) if bundle.graph.endswith(".xml") else ()


def graph_bytes(folder: Path, bundle: Bundle) -> int:
    """Return the size of the graph with its numbers: all that a server runs."""
    return sum((folder / name).stat().st_size for name in (bundle.graph, *graph_weights(bundle)))


def bundle_id(bundle: Bundle) -> str:
    """Return a short hash of the content that tells two bundles apart: the graph, classes and preprocessing."""
    known = bundle.preprocessing
    # As it was before these keys, where they say nothing.
    spec = known.model_dump_json(exclude={name for name in ("jpeg_scaling", "version") if not getattr(known, name)})
    graph = [bundle.files.get(name, "") for name in (bundle.graph, *graph_weights(bundle))]
    parts = [*graph, *bundle.classes, spec]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
