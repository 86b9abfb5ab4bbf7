"""Networks as ONNX graphs over uint8 images: what a bundle serves, and what OpenVINO runs on a CPU."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn


class NetworkPart(nn.Module):
    """A method of a network as a module of its own, to be exported alone.

    Args:
        network: The network whose parameters it uses.
        compute: The method, from uint8 images (N, S, S, 3) to a tensor.
    """

    def __init__(self, network: nn.Module, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.compute = compute

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute what the method makes of the images."""
        return self.compute(pixels)


def write_onnx(path: Path, module: nn.Module, image_size: int, outputs: list[str]) -> None:
    """Write a module that takes uint8 images (N, S, S, 3) as a graph with the input ``images`` and these outputs."""
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            str(path),
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("images", *outputs)},
            opset_version=17,
            dynamo=False,
        )
