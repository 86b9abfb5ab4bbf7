"""A tiny bundle made without torch: a linear classifier of mean colour, right on the images of ``prepared_data.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from testing.support.prepared_data import COLOURS

from vision_mlops.images.decoding import PIXELS_VERSION
from vision_mlops.model.bundle import GRAPH, WEIGHTS, Bundle, GoldenExample, Preprocessing, write_bundle
from vision_mlops.model.predictor import Predictor


def make_bundle(
    folder: Path, *, image_size: int = 32, swap: bool = False, classes: Sequence[str] = tuple(COLOURS)
) -> Path:
    """Write a bundle that knows blue, green and red, or calls them otherwise; ``swap`` exchanges the first two."""
    folder.mkdir(parents=True)
    (folder / "golden").mkdir()
    colours = np.array(list(COLOURS.values()), np.float32) / 255
    weight = (colours - colours.mean(0)) * 40
    if swap:
        weight = weight[[1, 0, 2]]
    bias = -(weight * colours.mean(0)).sum(1)
    onnx.save(_graph(image_size, weight.astype(np.float32), bias.astype(np.float32)), str(folder / GRAPH))
    save_file({"weight": weight}, folder / WEIGHTS)
    golden = []
    for label, colour in zip(classes, COLOURS.values(), strict=True):
        name = f"golden/{label}.png"
        Image.new("RGB", (image_size, image_size), colour).save(folder / name)
        golden.append(GoldenExample(file=name, label=label, probabilities=[0.0] * 3))
    spec = Preprocessing(image_size=image_size, version=PIXELS_VERSION)
    draft = Bundle(name="colours", classes=list(classes), preprocessing=spec,
                   backbone="mean-colour", data_fingerprint="generated", golden=golden)  # fmt: skip
    write_bundle(folder, draft)
    predictor = Predictor(folder, verify=False)
    scores = predictor.score([predictor.pixels(folder / item.file) for item in golden]).probabilities
    known = [
        item.model_copy(update={"probabilities": row.astype(float).tolist()})
        for item, row in zip(golden, scores, strict=True)
    ]
    write_bundle(folder, draft.model_copy(update={"golden": known}))
    return folder


def _graph(size: int, weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    window = size // 4
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["scaled"]),
        helper.make_node("AveragePool", ["scaled"], ["cells"], kernel_shape=[window] * 2, strides=[window] * 2),
        helper.make_node("Conv", ["cells", "weight", "bias"], ["activation_map"]),
        helper.make_node("GlobalAveragePool", ["activation_map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"white": np.float32(255), "weight": weight[:, :, None, None], "bias": bias}
    graph = helper.make_graph(
        nodes,
        "mean-colour",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("activation_map", TensorProto.FLOAT, ["batch", 3, 4, 4]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
