"""A bundle to measure with if none is trained: the pretrained backbone at 224 pixels, and a head of random weights.

    python -m benchmarks.serving.untrained FOLDER

It costs what a trained one costs. Needs the train extra.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from benchmarks.serving.pictures import small
from PIL import Image
from safetensors.torch import save_file

from vision_mlops.config.workload import Model
from vision_mlops.core.files import atomic_folder
from vision_mlops.images.decoding import PIXELS_VERSION, load_pixels
from vision_mlops.model.bundle import GRAPH, WEIGHTS, Bundle, GoldenExample, Preprocessing, write_bundle
from vision_mlops.model.network import Classifier
from vision_mlops.training.bundle_export import write_graph

CLASSES = [f"class {number}" for number in range(10)]
SIZE = 224
_SEED = 0
_HEAD = 0.03
"""Standard deviation of the head's weights. With the biases below, the first class wins by far whatever the precision, and
its probability still distinguishes one image from another."""
_STEP = 2.0
"""The bias of each class is this much lower than that of the previous class."""


def write(target: Path) -> None:
    """Write the bundle; its golden examples are the example images."""
    torch.manual_seed(_SEED)
    network = Classifier(Model(image_size=SIZE), len(CLASSES)).eval()
    torch.nn.init.normal_(network.head.weight, std=_HEAD)
    with torch.no_grad():
        network.head.bias.copy_(-_STEP * torch.arange(len(CLASSES)))
    with atomic_folder(target, overwrite=True) as folder:
        write_graph(folder / GRAPH, network, 1.0)
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / WEIGHTS)
        (folder / "golden").mkdir()
        golden = []
        for number, source in enumerate(small()):
            name = f"golden/{number:03d}.png"
            # Lossless and of the network's size, so that only the network is compared.
            Image.fromarray(load_pixels(source, SIZE)).save(folder / name)
            pixels = torch.from_numpy(load_pixels(folder / name, SIZE).copy())[None]
            with torch.inference_mode():
                row = network(pixels).softmax(1)[0]
            label = CLASSES[int(row.argmax())]
            golden.append(GoldenExample(file=name, label=label, probabilities=row.tolist()))
        described = Bundle(
            name="untrained", classes=CLASSES, backbone=network.config.backbone, data_fingerprint="untrained",
            preprocessing=Preprocessing(image_size=SIZE, version=PIXELS_VERSION), golden=golden,
        )  # fmt: skip
        write_bundle(folder, described)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
