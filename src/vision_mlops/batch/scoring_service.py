"""What a process of batch scoring does. It imports the numeric libraries only once it has started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.library_settings import keep_freed_memory

if TYPE_CHECKING:
    from vision_mlops.batch.image_sources import FetchedImage
    from vision_mlops.batch.prediction_rows import Outcome
    from vision_mlops.model.predictor import Precision, Predictor

# The system kills the largest process first; better one of these, which is noticed, than the one that holds the journal.
_OOM_SCORE = "300"


@dataclass
class ScoringService:
    """Scores batches of images with a bundle; images of more than ``max_pixels`` are not decoded."""

    bundle: Path
    precision: Precision
    max_pixels: int
    _predictor: Predictor = field(init=False, repr=False)

    def start(self) -> tuple[str, str] | None:
        """Load the model; return message and hint of the error if that fails."""
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
        # One core a process: the thread pools of the numeric libraries would only take memory.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        keep_freed_memory()
        from vision_mlops.model.predictor import load_predictor

        try:
            self._predictor = load_predictor(self.bundle, threads=1, precision=self.precision)
        except MlopsError as error:
            return error.message, error.hint
        return None

    def work(self, task: Sequence[FetchedImage]) -> list[Outcome] | str:
        """Return the outcomes in the order of the images; if the batch could not be computed, return the reason."""
        from vision_mlops.batch.prediction_rows import score_images

        images = [(item.listed.name, item.path) for item in task]
        try:
            return score_images(self._predictor, images, max_pixels=self.max_pixels)
        except Exception as error:  # noqa: BLE001 - whatever it is, the images are tried one by one
            return f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
