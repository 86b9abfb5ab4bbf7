"""Images as feature vectors: a pretrained backbone, or a trained bundle, on OpenVINO.

A pretrained backbone is converted once and kept below the home folder; from then on it needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision_mlops.config.own_code import model_references, source_hashes
from vision_mlops.config.workload import Model
from vision_mlops.core import paths
from vision_mlops.core.errors import BundleError, require
from vision_mlops.core.files import atomic_folder
from vision_mlops.images.resizing import Pixels, ResizeMode
from vision_mlops.model.bundle import read_bundle
from vision_mlops.model.openvino_runtime import load_openvino, shared_core

CACHE = "cache/embeddings"
_LAYOUT = 1  # of the exported features; a change makes kept graphs stale
_OUTPUT = "features"


class Embedding:
    """A compiled network from uint8 images to features. Threads may call it at once, each is served by one core.

    Args:
        graph: OpenVINO model with an output ``features`` (N, F).
        size: Edge of the square images that it takes.
        resize: How images become square.
    """

    def __init__(self, graph: Any, size: int, resize: ResizeMode) -> None:
        core = shared_core()
        # One thread and one stream a core: 2.5 times as fast here as all cores on one small batch.
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
        streams = os.cpu_count() or 1
        options |= {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
        self._model = core.compile_model(graph, "CPU", options)
        self.size = size
        self.resize: ResizeMode = resize
        self.width = int(self._model.output(_OUTPUT).get_partial_shape()[1].get_length())
        # Once from here: where the first call of a process comes from two threads at once, OpenVINO's binding can block for
        # ever. One waits for the initialisation of its access to numpy, the other, which initialises, for Python's lock.
        self(np.zeros((1, size, size, 3), np.uint8))

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Compute features (N, width) from uint8 pixels (N, size, size, 3)."""
        # A new request for each call: the compiled model's shared one is not safe across threads.
        return np.array(self._model.create_infer_request().infer([pixels])[_OUTPUT], np.float32)


def from_bundle(folder: Path) -> Embedding:
    """Return the features of a trained bundle: what its head sees.

    Raises:
        BundleError: the bundle is broken, or its graph has no feature map.
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = load_openvino()
    from openvino import opset13 as opset

    bundle = read_bundle(folder)
    try:
        model = shared_core().read_model(str(folder / bundle.graph))
        # The activation map is the head applied to each place of the feature map: its convolution's input is that map.
        node = model.output("activation_map").get_node().input_value(0).get_node()
        while node.get_type_name() != "Convolution":  # a bias is added after it
            node = node.input_value(0).get_node()
    except RuntimeError as error:
        raise BundleError(f"{folder / bundle.graph}: has no feature map ({error})", "train again") from error
    pooled = opset.reduce_mean(node.input_value(0), np.array([2, 3]), keep_dims=False)
    pooled.output(0).get_tensor().set_names({_OUTPUT})
    graph = openvino.Model([opset.result(pooled)], model.get_parameters(), _OUTPUT)
    return Embedding(graph, bundle.preprocessing.image_size, bundle.preprocessing.resize)


def from_backbone(model: Model) -> Embedding:
    """Return the features of a pretrained backbone: the means of each stage's activations, if any, and of the last ones.

    Raises:
        TrainingError: unknown backbone, or weights that cannot be loaded.
        MissingExtraError: torch, timm or OpenVINO is not installed, and the graph has not been converted before.
    """
    path = graph_path(model)
    if not path.is_file():
        convert(model, path)
    return Embedding(shared_core().read_model(str(path)), model.image_size, model.resize)


def convert(model: Model, path: Path) -> None:
    """Write the graph of a pretrained backbone's features, whole or not at all."""
    require("torch", "timm", "onnx")
    import torch
    from torch import Tensor

    from vision_mlops.model.network import Classifier
    from vision_mlops.model.onnx_graph import NetworkPart, write_onnx

    # One frozen stage, so that the network tells whether it is made of stages at all.
    network = Classifier(model.model_copy(update={"frozen_stages": 1}), 2).eval()
    backbone = network.backbone

    def features(pixels: Tensor) -> Tensor:
        """Return the channel means of all stages, (N, F): early ones know texture, late ones objects."""
        if not network.splits:
            return network.features(pixels).mean((2, 3))
        hidden = backbone.bn1(backbone.conv_stem(network.normalise(pixels)))
        means = []
        for stage in backbone.blocks:
            hidden = stage(hidden)
            means.append(hidden.mean((2, 3)))
        means.append(backbone.bn2(backbone.conv_head(hidden)).mean((2, 3)))
        return torch.cat(means, 1)

    with atomic_folder(path.with_suffix(".conversion"), overwrite=True) as folder:
        write_onnx(folder / path.name, NetworkPart(network, features), model.image_size, [_OUTPUT])
        (folder / path.name).replace(path)
    path.with_suffix(".conversion").rmdir()


def graph_path(model: Model) -> Path:
    """Return where the converted graph is kept: named after the backbone, its size and weights, and their code."""
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError:
        version = ""
    parts: list[object] = [_LAYOUT, model.backbone, model.image_size, model.pretrained, version]
    if own := model_references(model):
        parts += [model.transform, source_hashes(own)]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    name = "".join(sign if sign.isalnum() else "_" for sign in model.backbone)
    return paths.home() / CACHE / f"{name}-{model.image_size}-{digest}.onnx"
