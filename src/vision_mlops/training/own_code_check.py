"""Tries own code before training: what a bundle could not carry is refused in seconds, with the reason.

A bundle holds a graph and no Python. So what becomes a part of the network must be the same function of each image whenever
it is called, must not look at pixels to decide what to do, and must survive the way to ONNX and OpenVINO. All of that is
tried on made-up images with the network as it is before training.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vision_mlops.config.own_code import CodeReference, failed
from vision_mlops.config.workload import Augment
from vision_mlops.core.errors import MlopsError, TrainingError
from vision_mlops.model.network import Classifier
from vision_mlops.model.onnx_graph import NetworkPart, write_onnx
from vision_mlops.model.openvino_runtime import shared_core
from vision_mlops.model.own_layers import OwnBackbone, Transform, own_transform

_SAME, _SAME_IN_A_GRAPH = 1e-4, 0.01
"""Largest difference between two computations of the same numbers, as a share of the largest number."""
_GRAPH_ONLY = "a bundle carries a graph, and no Python: compute it with torch operations"


def check_own_code(network: Classifier, augment: Augment) -> None:
    """Try the own code of a network and of its augmentation, if there is any; the network stays as it is.

    Args:
        network: The network before training, on the CPU.
        augment: Augmentation of the training images.

    Raises:
        TrainingError: a bundle could not carry it, or it does not return what it should.
        ConfigError: it raises an error.
    """
    config, size = network.config, network.config.image_size
    varied = own_transform(augment.transform, "training.augment.transform")
    if network.transform is None and not config.has_own_backbone and varied is None:
        return
    with torch.random.fork_rng(devices=[]), _in_evaluation(network), torch.no_grad():
        torch.manual_seed(0)
        images = _images(size)
        if varied is not None:
            _check_images(CodeReference(augment.transform, "training.augment.transform"), varied, images)
        if network.transform is not None:
            reference = CodeReference(config.transform, "model.transform")
            _check_images(reference, network.transform, images)
            _check_function(reference, network.transform, images)
            _check_graph(reference, NetworkPart(network, network.normalise), images)
        if isinstance(network.backbone, OwnBackbone):
            normal = (images * 255 - network.mean) / network.std
            _check_function(network.backbone.reference, network.backbone.forward_features, normal)
            _check_graph(network.backbone.reference, NetworkPart(network, network.features), images)


def _images(size: int) -> Tensor:
    """Return made-up images (5, 3, S, S) from 0 to 1, in uint8 steps: noise, dark, bright, one colour, a gradient."""
    noise = torch.rand(3, 3, size, size) * torch.tensor([1.0, 0.2, 0.3]).view(3, 1, 1, 1)
    noise[2] += 0.7
    plain = torch.tensor([0.8, 0.1, 0.4]).view(1, 3, 1, 1).expand(1, 3, size, size)
    gradient = torch.linspace(0, 1, size).expand(1, 3, size, size)
    return (torch.cat([noise, plain, gradient]) * 255).round() / 255


def _check_images(reference: CodeReference, function: Transform, images: Tensor) -> None:
    """Check that images become images of the same kind."""
    found: Any = function(images.clone())
    if not isinstance(found, Tensor):
        raise TrainingError(f"{reference} returns a {type(found).__name__}", "return the changed images as a tensor")
    if found.shape != images.shape or found.dtype != images.dtype:
        raise TrainingError(
            f"{reference} makes {_described(found)} of {_described(images)}",
            "return images of the same shape and type: the workload's image_size says how large they are",
        )
    if not bool(found.isfinite().all()):
        raise TrainingError(
            f"{reference} returns numbers that are not finite, for an image that is dark, bright or of one colour",
            "keep divisors above 0, as .clamp(min=1e-6) does",
        )


def _check_function(reference: CodeReference, function: Transform, images: Tensor) -> None:
    """Check that an image always becomes the same: alone and among others, twice in a row, whatever its pixels are."""
    given = images.clone()
    found = function(given)
    if not torch.equal(given, images):
        raise TrainingError(
            f"{reference} changes the images that it is given", "work on a copy: images = images.clone()"
        )
    _check_decisions(reference, function, images)
    if _differ(found, function(images.clone())):
        raise TrainingError(
            f"{reference} does not return the same for the same images twice: it draws random numbers, or keeps a state",
            "random changes of training images belong to training.augment.transform; dropout is a module, which is off here",
        )
    alone = torch.cat([function(image[None].clone()) for image in images])
    if _differ(found, alone):
        raise TrainingError(
            f"{reference}: what becomes of an image depends on the other images of its batch",
            "compute means and the like over the dimensions 1, 2 and 3 of (N, 3, S, S), not over dimension 0",
        )


def _check_decisions(reference: CodeReference, function: Transform, images: Tensor) -> None:
    """Refuse decisions in Python that depend on pixels, which a graph cannot hold. Fake tensors have no pixels."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            function(mode.from_tensor(images))
    except MlopsError as error:
        if isinstance(error.__cause__, DataDependentOutputException):
            place = failed(reference, error.__cause__).message.removeprefix(f"{reference} failed: ").rpartition(": ")[0]
            raise TrainingError(
                f"{reference} decides by the pixels what to do, at {place.rpartition(': ')[0] or place}",
                f"{_GRAPH_ONLY}, such as torch.where instead of if, and without .item(), float() and bool()",
            ) from error
        # What else fake tensors cannot do need not fail in the graph, which is tried next.


def _check_graph(reference: CodeReference, module: nn.Module, images: Tensor) -> None:
    """Check that the graph can be made, runs on OpenVINO, and computes what torch computes."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial.onnx")
        try:
            with _without_printed_graphs():
                write_onnx(path, module, images.shape[-1], ["result"])
        except MlopsError:
            raise
        except Exception as error:
            raise TrainingError(f"{reference} cannot be exported to ONNX: {_line(error)}", _GRAPH_ONLY) from error
        try:
            model = shared_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise TrainingError(
                f"{reference}: OpenVINO, which serves the graph, cannot compile it: {_line(error, last=True)}",
                _GRAPH_ONLY,
            ) from error
        for batch in (pixels, pixels[:1]):
            _check_computed(reference, model, batch, module(batch))


def _check_computed(reference: CodeReference, model: Any, pixels: Tensor, expected: Tensor) -> None:
    found, cause = None, None
    try:
        found = torch.from_numpy(np.array(model(pixels.numpy())[0]))
    except RuntimeError as error:  # a shape that was recorded does not fit another number of images
        cause = error
    if found is None or _differ(found, expected, _SAME_IN_A_GRAPH):
        raise TrainingError(
            f"{reference} does not compute in ONNX what it computes in torch",
            f"{_GRAPH_ONLY}, for all images at once: what NumPy, Pillow or a loop over images computes is recorded once,"
            " and never changes",
        ) from cause


def _differ(found: Tensor, wanted: Tensor, tolerance: float = _SAME) -> bool:
    if found.shape != wanted.shape:
        return True
    return float((found - wanted).abs().max()) > tolerance * float(wanted.abs().max().clamp(min=1e-6))


@contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _without_printed_graphs() -> Iterator[None]:
    """Keep torch from printing the whole graph when an export fails: it does so in C++, and has no setting for it."""
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _line(error: Exception, *, last: bool = False) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-int(last)] if lines else type(error).__name__
