"""The bound: the least that has to be done for an image, by the fastest libraries for each step and without our package.

The JPEG is decoded by libjpeg-turbo at the smallest scale that the network's input allows, scaled by OpenCV's SIMD
instructions and classified by OpenVINO. It reads the bundle's description and graph itself and imports nothing of ours,
so that it tells how far our own code is from what is possible.

It decides about the scale of a large JPEG otherwise than the bundle asks, and scales without smoothing: it is faster, and
its probabilities for large images are not those of the predictor. The benchmark therefore compares them for small images
alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import simplejpeg

SCALES = (8, 4, 2)


def reduction(width: int, height: int, edge: int) -> int:
    """By how much the decoder scales a JPEG down: the most of 1, 2, 4 and 8 that leaves both edges at least this long."""
    return next((scale for scale in SCALES if -(-min(width, height) // scale) >= edge), 1)


def load(folder: Path, precision: str) -> Callable[[bytes], list[tuple[str, float]]]:
    """A function from a JPEG to its five most probable labels and their probabilities.

    Args:
        folder: The bundle.
        precision: ``auto`` leaves it to OpenVINO, which takes bf16 where the processor has it; ``f32`` as its hint.
    """
    import cv2  # type: ignore[import-not-found]
    import openvino

    cv2.setNumThreads(1)
    described = json.loads((folder / "bundle.json").read_text())
    classes, size = described["classes"], described["preprocessing"]["image_size"]
    options: dict[str, object] = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    if precision != "auto":
        options["INFERENCE_PRECISION_HINT"] = precision
    graph = folder / described.get("graph", "model.onnx")
    request = openvino.Core().compile_model(str(graph), "CPU", options).create_infer_request()

    def score(image: bytes) -> list[tuple[str, float]]:
        height, width, _colours, _subsampling = simplejpeg.decode_jpeg_header(image)
        scale = reduction(width, height, size)
        pixels = simplejpeg.decode_jpeg(
            image, "RGB", fastdct=True, fastupsample=True, min_height=-(-height // scale), min_width=-(-width // scale)
        )
        if pixels.shape[:2] != (size, size):
            pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
        probabilities = request.infer([pixels[None]], share_inputs=True)["probabilities"][0]
        return [(classes[i], float(probabilities[i])) for i in probabilities.argsort()[:-6:-1]]

    return score
