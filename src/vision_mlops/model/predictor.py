"""The predictor: encoded images in, calibrated class probabilities out, on OpenVINO and without torch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vision_mlops.core.errors import BundleError
from vision_mlops.images.decoding import MAX_PIXELS, load_pixels
from vision_mlops.images.resizing import Pixels
from vision_mlops.model.bundle import GOLDEN_TOLERANCE, Bundle, bundle_id, read_bundle
from vision_mlops.model.openvino_runtime import shared_core

Floats = npt.NDArray[np.float32]
Precision = Literal["auto", "f32"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scores:
    """Result for a batch: ``probabilities`` (N, C) and, where asked for, ``activation_maps`` (N, C, h, w)."""

    probabilities: Floats
    activation_maps: Floats | None = None


class Predictor:
    """One loaded bundle.

    Args:
        folder: The bundle.
        threads: Inference threads; 0 lets OpenVINO choose. With one, the graph is compiled for one image, which takes 6% off
            its time, and a batch is scored image by image, which is no slower.
        precision: ``f32`` gives the golden probabilities everywhere; ``auto`` lets the processor use bf16 where it can,
            which is faster and moves a probability by some hundredths.
        verify: Recompute the golden examples and refuse the bundle where they differ.

    Raises:
        BundleError: the bundle is broken, was changed, or does not reproduce its golden examples.
        MissingExtraError: OpenVINO is not installed.
    """

    def __init__(self, folder: Path, *, threads: int = 0, precision: Precision = "f32", verify: bool = True) -> None:
        core = shared_core()
        self.folder = folder
        self.bundle = read_bundle(folder)
        self.id = bundle_id(self.bundle)
        self._max_pixels = _trained_limit(self.bundle)
        graph = folder / self.bundle.graph
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        if precision != "auto":
            options["INFERENCE_PRECISION_HINT"] = precision
        self._one_by_one = threads == 1
        try:
            model = core.read_model(str(graph))
            if self._one_by_one:
                edge = self.bundle.preprocessing.image_size
                model.reshape([1, edge, edge, 3])
            self._model = core.compile_model(model, "CPU", options)
            self._probabilities = self._model.output("probabilities")
            self._activation_map = self._model.output("activation_map")
        except RuntimeError as error:
            raise BundleError(f"{graph}: OpenVINO cannot load the graph: {error}", "train again") from error
        self._local = threading.local()
        if verify:
            self._verify_golden()

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the probabilities."""
        return self.bundle.classes

    def pixels(self, source: bytes | Path, *, name: str = "", max_pixels: int = 0) -> Pixels:
        """Decode one image to the (S, S, 3) uint8 array that :meth:`score` takes. Raises ImageError.

        Args:
            source: Encoded bytes, or the path of a file.
            name: Name of the image in errors; by default its path.
            max_pixels: Largest width x height; 0 is :data:`MAX_PIXELS`, or more if the model was trained on more.
        """
        spec, limit = self.bundle.preprocessing, max_pixels or self._max_pixels
        return load_pixels(
            source, spec.image_size, spec.resize, version=spec.pixels_version, name=name, max_pixels=limit
        )

    def score(self, pixels: Sequence[Pixels], *, explain: bool = False) -> Scores:
        """Score decoded images. ``explain`` adds the activation maps. Thread-safe."""
        if not pixels:
            return Scores(np.empty((0, len(self.classes)), np.float32))
        if self._one_by_one and len(pixels) > 1:
            each = [self.score([image], explain=explain) for image in pixels]
            maps = np.concatenate([one.activation_maps for one in each]) if explain else None
            return Scores(np.concatenate([one.probabilities for one in each]), maps)
        batch = pixels[0][None] if len(pixels) == 1 else np.stack(pixels)
        # Neither copied into the request nor out of it, and not looked up by name: 3% of the time of an image.
        result = self._request().infer(batch, share_inputs=True, share_outputs=True)
        maps = np.array(result[self._activation_map]) if explain else None
        return Scores(np.array(result[self._probabilities]), maps)

    def _request(self) -> Any:
        """Return this thread's inference request: it keeps its buffers, and the model's shared one is not thread-safe."""
        try:
            return self._local.request
        except AttributeError:
            self._local.request = self._model.create_infer_request()
            return self._local.request

    def score_files(self, files: Sequence[Path], *, batch_size: int = 32) -> Floats:
        """Return probabilities (N, C) of files, of which one batch at a time is decoded. Raises ImageError."""
        batches = (files[start : start + batch_size] for start in range(0, len(files), batch_size))
        return np.concatenate([self.score([self.pixels(file) for file in batch]).probabilities for batch in batches])

    def top(self, probabilities: Floats, k: int) -> list[tuple[str, float]]:
        """Return the k most probable (label, probability) pairs, best first."""
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.classes[i], float(probabilities[i])) for i in order]

    def _verify_golden(self) -> None:
        golden = self.bundle.golden
        if not golden:
            raise BundleError(f"{self.folder} has no golden examples", "train again")
        scores = self.score([self.pixels(self.folder / example.file) for example in golden])
        for example, got in zip(golden, scores.probabilities, strict=True):
            gap = float(np.abs(got - np.asarray(example.probabilities, np.float32)).max())
            if not gap <= GOLDEN_TOLERANCE:
                raise BundleError(
                    f"{self.folder}: golden example {example.file} differs by {gap:.3f} from training"
                    f" (tolerance {GOLDEN_TOLERANCE})",
                    "this machine or library version does not reproduce the model: train again here",
                )


def _trained_limit(bundle: Bundle) -> int:
    """Return the largest width x height of an image: what training accepted is not refused afterwards."""
    data = bundle.workload.get("data")
    limit = data.get("max_pixels") if isinstance(data, dict) else None
    return max(MAX_PIXELS, limit) if isinstance(limit, int) else MAX_PIXELS


def load_predictor(folder: Path, *, threads: int = 0, precision: Precision) -> Predictor:
    """Load and verify a bundle; ``auto`` goes back to f32 where it does not reproduce the golden examples.

    Args:
        folder: The bundle.
        threads: The same as of :class:`Predictor`.
        precision: The same as of :class:`Predictor`.

    Raises:
        BundleError: the bundle is broken, was changed, or does not reproduce its golden examples.
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        return Predictor(folder, threads=threads, precision=precision)
    except BundleError as error:
        if precision == "f32":
            raise
        predictor = Predictor(folder, threads=threads, precision="f32")
        _LOG.warning("computing with 32-bit floats: %s", error.message)
        return predictor
