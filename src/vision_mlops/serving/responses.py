"""Scores the images of a request and makes the response, for the scoring server and for Azure ML's own."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vision_mlops.config.workload import Serving
from vision_mlops.core.errors import ImageError
from vision_mlops.core.work_timer import WorkTimer
from vision_mlops.images.resizing import Pixels
from vision_mlops.model.explanations import overlay
from vision_mlops.model.predictor import Floats, Predictor
from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.http.scoring_requests import ScoringRequest
from vision_mlops.serving.served_model import ServedModel

_IMAGE_ERRORS = {
    "not_an_image": (415, "not_an_image"),
    "unsupported_format": (415, "unsupported_format"),
    "too_large": (413, "image_too_large"),
    "empty": (400, "empty"),
}
_AT_ONCE = 8
"""Images of a batch that are inferred together: the memory of an inference grows with them, its speed hardly."""


def score(
    model: ServedModel,
    wanted: ScoringRequest,
    *,
    request_id: str,
    started: float,
    check: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[str], list[Floats]]:
    """Decode, infer and describe.

    The times in the response are in milliseconds. ``decode_ms`` and ``inference_ms`` are parts of ``total_ms``, which counts
    from ``started``. ``work_ms`` is what the images cost by themselves, without waiting for a turn or for a core: it is
    about the model, however busy the machine is.

    Args:
        model: Gives the probabilities.
        wanted: Images and options.
        request_id: Id of the request, which the response repeats.
        started: Time at which the request began, by the performance counter.
        check: Called before each image; what it raises ends the work.

    Returns:
        The response, the label of each image, and its probabilities (C,).

    Raises:
        RequestError: an image cannot be decoded.
    """
    predictor, timer = model.predictor, WorkTimer()
    decoding = inferring = 0.0
    results: list[dict[str, Any]] = []
    rows: list[Floats] = []
    for first in range(0, len(wanted.images), _AT_ONCE):
        begun = time.perf_counter()
        pixels = []
        for number, data in enumerate(wanted.images[first : first + _AT_ONCE], first):
            check()
            pixels.append(_decode(predictor, data, f"image {number}" if wanted.batch else "image"))
        decoded = time.perf_counter()
        scores = predictor.score(pixels, explain=wanted.explain)
        inferring += time.perf_counter() - decoded
        decoding += decoded - begun
        for i, row in enumerate(scores.probabilities):
            best = predictor.top(row, wanted.top_k)
            result: dict[str, Any] = {"predictions": [{"label": name, "probability": round(p, 6)} for name, p in best]}
            if scores.activation_maps is not None:
                result["heat_map"] = _heat_map(pixels[i], scores.activation_maps[i, int(row.argmax())])
            results.append(result)
            rows.append(row)
    timing = {"decode_ms": round(decoding * 1000, 3), "inference_ms": round(inferring * 1000, 3)}
    labels = [result["predictions"][0]["label"] for result in results]
    answer: dict[str, Any] = {"results": results} if wanted.batch else results[0]
    timing["work_ms"] = round(timer.milliseconds(), 3)
    timing["total_ms"] = round((time.perf_counter() - started) * 1000, 3)
    return answer | {"timing": timing, "model": model.describe(), "request_id": request_id}, labels, rows


def description(model: ServedModel, serving: Serving, request_id: str) -> dict[str, Any]:
    """Return the response to a request for a description: the model, and the limits of a request in bytes and images."""
    limits = {"body_bytes": serving.max_body_mb * 2**20, "images": serving.max_batch}
    return {"model": model.describe_fully(), "limits": limits, "request_id": request_id}


def _decode(predictor: Predictor, data: bytes, name: str) -> Pixels:
    try:
        return predictor.pixels(data, name=name)
    except ImageError as error:
        status, code = _IMAGE_ERRORS.get(error.reason, (422, error.reason))
        raise RequestError(status, code, error.message) from error


def _heat_map(pixels: Pixels, activation_map: np.ndarray) -> str:
    """Return the base64 of a PNG: the image as the network saw it, under its heat map."""
    from PIL import Image

    stream = io.BytesIO()
    overlay(Image.fromarray(pixels), activation_map).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
