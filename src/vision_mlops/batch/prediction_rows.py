"""The result of one image in batch scoring: a row, or the reason why there is none.

The only module that makes them, for ``mlops batch score`` and for the entry script of Azure ML's parallel jobs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import ImageError
from vision_mlops.images.decoding import read_size
from vision_mlops.images.resizing import Pixels
from vision_mlops.model.predictor import Floats, Predictor

DIGITS = 6
"""Decimals of a probability as text."""
MAX_BYTES = 256 * 2**20
"""Larger files are not read: no image of :data:`~vision_mlops.images.decoding.MAX_PIXELS` needs more."""


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """What rows say about the model that scored: its registered name and version, and the id of its bundle."""

    name: str
    version: str
    id: str


@dataclass(frozen=True, slots=True)
class Scored:
    """An image with its probabilities (C,), the sha256 of its file, and its size in pixels as displayed."""

    sha256: str
    width: int
    height: int
    probabilities: Floats


@dataclass(frozen=True, slots=True)
class Failed:
    """An image without a score. ``code`` is a short word such as ``truncated``, ``message`` for a person."""

    code: str
    message: str


Outcome = Scored | Failed


def score_images(predictor: Predictor, images: Sequence[tuple[str, Path]], *, max_pixels: int = 0) -> list[Outcome]:
    """Read, decode and score images in one batch. Only one encoded image is in memory at a time.

    Args:
        predictor: The loaded model.
        images: Name of each image in messages, and its file.
        max_pixels: Images with more are not decoded; 0 takes the limit of :meth:`Predictor.pixels`.

    Returns:
        An outcome for each image, in the given order.
    """
    facts: list[tuple[str, int, int] | Failed] = []
    pixels: list[Pixels] = []
    for name, path in images:
        try:
            data = _read(name, path)
            decoded = predictor.pixels(data, name=name, max_pixels=max_pixels)
            facts.append((hashlib.sha256(data).hexdigest(), *read_size(data)))
            pixels.append(decoded)
        except ImageError as error:
            facts.append(Failed(error.reason, error.message))
    probabilities = iter(predictor.score(pixels).probabilities)
    return [fact if isinstance(fact, Failed) else Scored(*fact, next(probabilities)) for fact in facts]


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                failed = too_large(name, size)
                raise ImageError(failed.message, "scale the image down", failed.code)
            return stream.read()
    except OSError as error:
        raise ImageError(
            f"{name}: cannot be read ({error.strerror or error})", "check the file", "unreadable"
        ) from error


def too_large(name: str, size: int) -> Failed:
    """Return the failure of a file of more than :data:`MAX_BYTES`."""
    return Failed("too_large", f"{name}: {size:,} bytes is more than the limit of {MAX_BYTES:,}")


def to_json(image: str, outcome: Outcome, model: ScoringModel, classes: Sequence[str], top_k: int = 0) -> str:
    """Return a line of JSON: the ``top_k`` most probable classes of an image, all of them for 0, or its error."""
    row: dict[str, Any] = {"image": image}
    if isinstance(outcome, Failed):
        row["error"] = {"code": outcome.code, "message": outcome.message}
        return json.dumps(row, ensure_ascii=False)
    values = outcome.probabilities
    order = (-values).argsort(kind="stable")[: top_k or len(classes)]
    row["predictions"] = [{"label": classes[i], "probability": round(float(values[i]), DIGITS)} for i in order]
    row["model"] = asdict(model)
    row |= {"sha256": outcome.sha256, "width": outcome.width, "height": outcome.height}
    return json.dumps(row, ensure_ascii=False)


def columns(classes: Sequence[str]) -> list[str]:
    """Return names of the columns of a table of rows."""
    return [
        "image", "label", "probability", *(f"p_{name}" for name in classes), "model", "version", "bundle", "sha256",
        "width", "height",
    ]  # fmt: skip


def to_values(image: str, outcome: Scored, model: ScoringModel, classes: Sequence[str]) -> list[Any]:
    """Return the values of a row, in the order of :func:`columns`; probabilities as computed."""
    values = outcome.probabilities
    best = int(values.argmax())
    return [
        image, classes[best], float(values[best]), *map(float, values), model.name, model.version, model.id,
        outcome.sha256, outcome.width, outcome.height,
    ]  # fmt: skip
