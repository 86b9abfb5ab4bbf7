"""Our predictor in a loop, without HTTP: beside the server it tells what HTTP costs, beside the bound what we add."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def load(folder: Path, precision: str) -> Callable[[bytes], list[tuple[str, float]]]:
    """A function from an image to its five most probable labels and their probabilities, loaded as the server loads it.

    Args:
        folder: The bundle.
        precision: ``auto`` or ``f32``; where bf16 does not give the golden examples, ``auto`` takes 32-bit floats.
    """
    from vision_mlops.serving.served_model import ModelSource, load_model

    predictor = load_model(ModelSource(folder, precision=precision, threads=1)).predictor  # type: ignore[arg-type]

    def score(image: bytes) -> list[tuple[str, float]]:
        return predictor.top(predictor.score([predictor.pixels(image)]).probabilities[0], 5)

    return score
