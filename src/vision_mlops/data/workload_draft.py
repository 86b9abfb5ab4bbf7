"""A first workload file for new images: every value is derived from them, and says why."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import yaml

from vision_mlops.config.workload import Split
from vision_mlops.core.text import counted
from vision_mlops.data.overview import FolderOverview

_SMALLEST, _USUAL, _LARGEST = 96, 224, 320  # pixels: the network halves the edge five times
_STEPS = 180  # optimiser steps in which the shipped workload's network has learnt its task, with some to spare
_SIDED = {"left", "right", "links", "rechts", "clockwise", "counterclockwise", "anticlockwise"}


@dataclass(frozen=True, slots=True)
class Draft:
    """The values of a workload that depend on its images."""

    image_size: int
    frozen_stages: int
    epochs: int
    batch_size: int
    learning_rate: float
    flip: bool
    min_accuracy: float
    min_recall_per_class: float
    max_calibration_error: float


def draft(look: FolderOverview, split: Split | None = None) -> Draft:
    """Choose values for the images of a folder.

    Args:
        look: What the folder holds.
        split: Fractions that preparation will draw.
    """
    split = split or Split()
    train, test = look.expected("train", split), look.expected("test", split)
    batch_size = 32 if train >= 256 else 16 if train >= 96 else 8
    per_class = test * min(look.counts.values()) / look.images
    return Draft(
        image_size=_image_size(look),
        # The fewer the images, the more of the pretrained network is kept as it is.
        frozen_stages=3 if train < 3_000 else 2,
        epochs=min(30, max(3, math.ceil(_STEPS * batch_size / max(train, 1)))),
        batch_size=batch_size,
        learning_rate=2e-3 * batch_size / 32,
        flip=not _sided(look),
        min_accuracy=_halfway(look.largest_share),
        min_recall_per_class=0.5 if per_class >= 10 else 0.3 if per_class >= 4 else 0.0,
        max_calibration_error=0.1 if test >= 300 else 0.15 if test >= 100 else 0.25,
    )


def workload_text(name: str, title: str, images: str, look: FolderOverview, split: Split | None = None) -> str:
    """Return the workload as YAML, with comments for its author.

    Args:
        name: Name of the workload.
        title: Title for people.
        images: Value of ``data.path``.
        look: What that folder holds.
        split: Fractions of the images in each split.
    """
    split = split or Split()
    values = draft(look, split)
    smallest = min(look.counts, key=lambda label: look.counts[label])
    largest = max(look.counts, key=lambda label: look.counts[label])
    size = f"{look.width} x {look.height} pixels" + ("" if look.same_size else " in the median")
    share = f"{look.largest_share:.0%}"
    span = f"{look.counts[smallest]:,} each"
    if look.counts[smallest] != look.counts[largest]:
        span = (
            f"from {look.counts[smallest]:,} of {_quoted(smallest)} to {look.counts[largest]:,} of {_quoted(largest)}"
        )
    tested = max(1, round(look.expected("test", split) * look.counts[smallest] / look.images))
    rarest = f"of {_quoted(smallest)} about {tested} are in test"
    flip = "a mirrored image is still of its class" if values.flip else "its classes tell left from right, or are signs"
    given = " The folder's own split is kept; this draws what it lacks." if look.splits else ""
    return f"""\
# {counted(look.images, "image")} of {counted(len(look.counts), "class")}, {size}.
# Images of a class: {span}.
# The values are a first guess from a look at the images. `mlops config show --workload {name}` lists all keys.
name: {name if yaml.safe_load(name) == name else _quoted(name)}
title: {_quoted(title)}
data:
  path: {_quoted(images)}
  split: {{train: {split.train:g}, val: {split.val:g}, test: {split.test:g}, seed: {split.seed}}}  # of each class.{given}
model:
  backbone: tf_efficientnet_lite0
  image_size: {values.image_size}  # {_why_size(look)}
  frozen_stages: {values.frozen_stages}  # fewer for images that do not look like photographs; training takes longer
training:
  epochs: {values.epochs}
  batch_size: {values.batch_size}
  learning_rate: {values.learning_rate:g}
  augment: {{horizontal_flip: {str(values.flip).lower()}}}  # {flip}
gate:
  # Floors that a useful model passes with ease. Raise them once you know what yours reaches.
  min_accuracy: {values.min_accuracy:g}  # always predicting {_quoted(largest)} reaches {share}
  min_recall_per_class: {values.min_recall_per_class:g}  # {rarest}
  max_calibration_error: {values.max_calibration_error:g}
"""


def _image_size(look: FolderOverview) -> int:
    edge = round(math.sqrt(look.width * look.height))
    if look.same_size and _SMALLEST <= edge <= _LARGEST:
        return edge
    return min(_USUAL, max(_SMALLEST, 32 * math.ceil(edge / 32)))


def _why_size(look: FolderOverview) -> str:
    edge = round(math.sqrt(look.width * look.height))
    if edge < _SMALLEST:
        return "larger than the images: the network halves the edge five times"
    if look.same_size and edge <= _LARGEST:
        return "close to the original size, so that small details survive"
    return "raise it if small details matter; time grows with its square"


def _sided(look: FolderOverview) -> bool:
    """Return whether mirroring would change the class, as far as the names tell: digits, letters, left and right."""
    words = {word for label in look.counts for word in label.lower().replace("-", "_").replace(" ", "_").split("_")}
    return bool(words & _SIDED) or all(len(label) == 1 or label.isdigit() for label in look.counts)


def _halfway(share: float) -> float:
    """Return the middle between always predicting the largest class and never being wrong, in steps of 0.05."""
    return math.floor((share + (1 - share) / 2) * 20 + 1e-9) / 20


def _quoted(text: str) -> str:
    """Quote text for YAML and comments: JSON keeps it on one line, and escapes what YAML does not allow."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
