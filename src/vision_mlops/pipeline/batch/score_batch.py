"""Entry script of batch scoring: ``init()`` is called once in each process, then ``run()`` for one mini-batch after another.

Arguments: ``--bundle FOLDER``, ``--top-k N``; all others are those of the service and are left alone. A row is one line of
JSON: ``{"image": ..., "predictions": [{"label": ..., "probability": ...}, ...], "model": {"name": ..., "id": ...}}``, or
``{"image": ..., "error": {"code": ..., "message": ...}}`` for an image that cannot be read. Needs the package, not torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.exceptions import DataError, ImageError, MlopsError
from vision_mlops.imaging import Pixels
from vision_mlops.inference.predictor import Predictor

_AT_ONCE = 32  # images in memory, whatever the size of a mini-batch
_SUSPICIOUS = 10


@dataclass(frozen=True)
class Scorer:
    """A loaded bundle, and how many classes a row gets."""

    predictor: Predictor
    top_k: int

    def rows(self, paths: Sequence[Path]) -> list[str]:
        """One line of JSON for each image, in the given order.

        Raises:
            DataError: none of ten or more images can be read, so that the folder is wrong rather than an image.
        """
        found = [
            row for start in range(0, len(paths), _AT_ONCE) for row in self._chunk(paths[start : start + _AT_ONCE])
        ]
        if len(found) >= _SUSPICIOUS and all("error" in row for row in found):
            raise DataError(
                f"none of {len(found)} files is an image that can be read, the first: {found[0]['error']}",
                "give a folder of images as the input `images`",
            )
        return [json.dumps(row, ensure_ascii=False) for row in found]

    def _chunk(self, paths: Sequence[Path]) -> list[dict[str, object]]:
        images: list[Pixels] = []
        errors: dict[Path, ImageError] = {}
        for path in paths:
            try:
                images.append(self.predictor.pixels(path))
            except ImageError as error:
                errors[path] = error
        scores = iter(self.predictor.score(images).probabilities)
        model = {"name": self.predictor.bundle.name, "id": self.predictor.id}
        rows: list[dict[str, object]] = []
        for path in paths:
            if path in errors:
                problem = {"code": errors[path].reason, "message": errors[path].message}
                rows.append({"image": str(path), "error": problem})
                continue
            best = self.predictor.top(next(scores), self.top_k)
            predictions = [{"label": label, "probability": round(value, 6)} for label, value in best]
            rows.append({"image": str(path), "predictions": predictions, "model": model})
        return rows


_scorer: Scorer | None = None


def init(arguments: Sequence[str] | None = None) -> None:
    """Load and verify the bundle that the command line names.

    Raises:
        BundleError: the bundle is broken, so that nothing can be scored.
        MlopsError: ``--top-k`` is above the number of classes.
    """
    global _scorer
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--top-k", type=int, default=0)
    options, _ = parser.parse_known_args(arguments)
    predictor = Predictor(options.bundle, threads=1)
    classes = len(predictor.classes)
    if not 0 <= options.top_k <= classes:
        raise MlopsError(
            f"--top-k {options.top_k}: the model has {classes} classes", f"use 0 to {classes}; 0 gives all"
        )
    _scorer = Scorer(predictor, options.top_k or classes)


def run(mini_batch: Sequence[str]) -> list[str]:
    """Score the images of one mini-batch; as many rows as images. Raises as :meth:`Scorer.rows`."""
    if _scorer is None:
        raise MlopsError("run() was called before init()", "call init() once, it loads the model")
    return _scorer.rows([Path(item) for item in mini_batch])
