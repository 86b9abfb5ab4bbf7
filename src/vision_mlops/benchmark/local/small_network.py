"""The contestant ``from-scratch``: a small convolutional network without pretrained weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vision_mlops.benchmark.contestant import Contestant, Probabilities, Task
from vision_mlops.images.decoding import load_pixels
from vision_mlops.model.onnx_graph import NetworkPart, write_onnx
from vision_mlops.model.openvino_runtime import shared_core
from vision_mlops.training import training_runtime
from vision_mlops.training.bundle_export import fit_temperature, logits
from vision_mlops.training.lightning_module import balanced_weights
from vision_mlops.training.training_batches import ImageSplit, collate

_WIDTHS = (16, 32, 64, 128)
_EPOCHS = 8
_RATE = 4e-3
_BATCH = 32


class SmallNetwork(nn.Module):
    """Four convolutions that halve the image, pooling and a linear layer: uint8 pixels (N, S, S, 3) to logits (N, C).

    Args:
        classes: How many.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *_WIDTHS), _WIDTHS, strict=False):
            convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * _WIDTHS[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits; the largest value of a feature counts beside its mean, as a defect may be small."""
        hidden: Tensor = self.layers(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return self.head(torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1))  # type: ignore[no-any-return]


class FromScratch(Contestant):
    """A network that only learns from the images, from a seed; the best epoch on val is kept and calibrated there."""

    name = "from-scratch"
    title = "Small network from scratch"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.graph = task.folder / "network.onnx"
        self._model: Any = None

    def settings(self) -> Mapping[str, Any]:
        """Return the network, how it learns, and what it takes over from the workload."""
        model, training = self.task.workload.model, self.task.workload.training
        return {
            "widths": list(_WIDTHS), "epochs": _EPOCHS, "rate": _RATE, "batch": _BATCH, "image_size": model.image_size,
            "resize": model.resize, "seed": training.seed, "augment": training.augment.model_dump(),
        }  # fmt: skip

    def fit(self) -> None:
        """Train, keep the best epoch, calibrate, and export the graph."""
        task = self.task
        training_runtime.keep_freed_memory()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.workload.training.seed)
            train = ImageSplit(task.data, task.manifest, "train", task.workload, augment=True)
            val = ImageSplit(task.data, task.manifest, "val", task.workload)
            network, scores = self._learn(train, val)
        temperature = fit_temperature(scores, torch.tensor(val.labels))
        calibrated = NetworkPart(network, lambda pixels: (network(pixels) / temperature).softmax(1))
        write_onnx(self.graph, calibrated, task.workload.model.image_size, ["probabilities"])
        options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
        self._model = shared_core().compile_model(str(self.graph), "CPU", options)

    def predict(self, files: Sequence[Path]) -> Probabilities:
        """Return probabilities of the exported graph, on one thread."""
        model, limit = self.task.workload.model, self.task.workload.data.max_pixels
        request = self._model.create_infer_request()
        rows = [
            request.infer([load_pixels(file, model.image_size, model.resize, max_pixels=limit)[None]])["probabilities"][
                0
            ]
            for file in files
        ]
        return np.array(rows, np.float64)

    def size_bytes(self) -> int:
        """Return the size of the exported graph."""
        return self.graph.stat().st_size

    def _learn(self, train: ImageSplit, val: ImageSplit) -> tuple[SmallNetwork, Tensor]:
        """Return the network of the best epoch, and its logits of the val images (N, C)."""
        network = SmallNetwork(len(self.task.manifest.classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = min(_BATCH, len(train))
        # A last batch of one image has no batch statistics: leave it out.
        loader = DataLoader(
            train, batch, shuffle=True, collate_fn=collate, drop_last=len(train) % batch == 1 and len(train) > 1
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, epochs=_EPOCHS, steps_per_epoch=len(loader))
        weights = balanced_weights(train.labels, len(self.task.manifest.classes))
        truth = torch.tensor(val.labels)
        best, kept, scores = float("inf"), network, torch.empty(0)
        for epoch in range(_EPOCHS):
            network.train()
            for pixels, labels in loader:
                loss = nn.functional.cross_entropy(network(pixels), labels, weight=weights, label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            found = logits(network, val, _BATCH)
            val_loss = float(nn.functional.cross_entropy(found, truth))
            accuracy = float((found.argmax(1) == truth).float().mean())
            self.task.say(f"epoch {epoch + 1} of {_EPOCHS}: val loss {val_loss:.4f}, val accuracy {accuracy:.4f}")
            if val_loss < best:
                best, kept, scores = val_loss, copy.deepcopy(network), found
        return kept.eval(), scores
