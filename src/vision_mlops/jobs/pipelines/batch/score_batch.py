"""Entry script of batch scoring: ``init()`` is called once in each process, then ``run()`` for each mini-batch.

The bundle is that of ``--bundle FOLDER``, or else the model that Azure ML mounted at AZUREML_MODEL_DIR. Other arguments are
``--top-k N``, ``--precision auto|f32``, and ``--model-name`` and ``--model-version``, which appear in the rows; all others
are those of the service and are ignored. A row is one line of JSON with the content of a row of ``mlops batch score``:
``{"image": ..., "predictions": [{"label": ..., "probability": ...}, ...], "model": {"name": ..., "version": ..., "id": ...},
"sha256": ..., "width": ..., "height": ...}``, or ``{"image": ..., "error": {"code": ..., "message": ...}}`` for one that
cannot be read. Needs the package, not torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.batch.prediction_rows import Failed, ScoringModel, score_images, to_json
from vision_mlops.core.errors import DataError, MlopsError
from vision_mlops.model.bundle_lookup import mounted_model
from vision_mlops.model.predictor import Predictor, load_predictor

_AT_ONCE = 4  # images in memory, whatever the size of a mini-batch; larger batches are no faster on a core
_SUSPICIOUS = 10


@dataclass(frozen=True)
class BatchScorer:
    """A loaded bundle, how rows describe it, and how many classes a row lists."""

    predictor: Predictor
    model: ScoringModel
    top_k: int

    def rows(self, paths: Sequence[Path]) -> list[str]:
        """One line of JSON for each image, in the given order.

        Raises:
            DataError: none of ten or more images can be read, so the folder is probably wrong.
        """
        images = [(str(path), path) for path in paths]
        outcomes = [
            outcome
            for start in range(0, len(images), _AT_ONCE)
            for outcome in score_images(self.predictor, images[start : start + _AT_ONCE])
        ]
        errors = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        if len(errors) >= _SUSPICIOUS and len(errors) == len(outcomes):
            raise DataError(
                f"none of {len(errors)} files is a readable image; the first error is {errors[0].code}:"
                f" {errors[0].message}",
                "give a folder of images as the input `images`",
            )
        return [
            to_json(name, outcome, self.model, self.predictor.classes, self.top_k)
            for (name, _), outcome in zip(images, outcomes, strict=True)
        ]


_scorer: BatchScorer | None = None


def init(arguments: Sequence[str] | None = None) -> None:
    """Load and verify the bundle.

    Raises:
        BundleError: the bundle is missing or broken.
        MlopsError: ``--top-k`` is above the number of classes.
    """
    global _scorer
    options, _ = _parser().parse_known_args(arguments)
    folder, name, version = (options.bundle, "", "") if options.bundle else mounted_model()
    predictor = load_predictor(folder, threads=1, precision=options.precision)
    classes = len(predictor.classes)
    if not 0 <= options.top_k <= classes:
        raise MlopsError(
            f"--top-k {options.top_k}: the model has {classes} classes", f"use 0 to {classes}; 0 lists all"
        )
    model = ScoringModel(
        options.model_name or name or predictor.bundle.name, options.model_version or version, predictor.id
    )
    _scorer = BatchScorer(predictor, model, options.top_k)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--precision", choices=("auto", "f32"), default="auto")
    parser.add_argument("--model-name", default="")
    parser.add_argument("--model-version", default="")
    return parser


def run(mini_batch: Sequence[str]) -> list[str]:
    """Score the images of one mini-batch; returns one row for each image. Raises as :meth:`BatchScorer.rows` does."""
    if _scorer is None:
        raise MlopsError("run() was called before init()", "call init() first, which loads the model")
    return _scorer.rows([Path(item) for item in mini_batch])
