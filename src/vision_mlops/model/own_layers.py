"""Layers of a project's own in the network: its transform of images, and its backbone.

Both work on float images (N, 3, S, S). A transform gets and returns them from 0 to 1; a backbone gets them normalised and
returns a feature map (N, F, h, w), which pooling, dropout and the linear head follow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vision_mlops.config.own_code import CodeReference, OwnFunction, failed, load
from vision_mlops.config.workload import Model as ModelConfig
from vision_mlops.core.errors import ConfigError, MlopsError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet: how images are normalised for a backbone that does not say otherwise."""

Transform = Callable[[Tensor], Tensor]


def own_transform(text: str, key: str) -> Transform | None:
    """Return the function ``module:function`` of a key, computed in full precision; None if the text is empty.

    Raises:
        ConfigError: it cannot be loaded.
    """
    if not text:
        return None
    function = OwnFunction(CodeReference(text, key), "images")

    def transform(images: Tensor) -> Tensor:
        # As it is served: mixed precision of the training would round.
        if torch.is_autocast_enabled(images.device.type):
            with torch.autocast(images.device.type, enabled=False):
                return function(images)  # type: ignore[no-any-return]
        return function(images)  # type: ignore[no-any-return]

    return transform


class OwnBackbone(nn.Module):
    """The network that a project's function or class returns, with what is asked of a backbone of timm.

    Args:
        config: Its ``backbone`` names the function, which is called with those of ``pretrained`` and ``image_size`` that it
            has as parameters.
        load_weights: Start from pretrained weights where the config asks for them.

    Raises:
        ConfigError: the function cannot be loaded or fails, or what it returns is not a network of this kind.
    """

    def __init__(self, config: ModelConfig, *, load_weights: bool) -> None:
        super().__init__()
        self.reference = CodeReference(config.backbone, "model.backbone")
        offered = {"pretrained": config.pretrained and load_weights, "image_size": config.image_size}
        self.module = _built(self.reference, offered)
        self.mean = _of_channels(self.reference, self.module, "mean", MEAN)
        self.std = _of_channels(self.reference, self.module, "std", STD)
        self.num_features = self._count_features(config.image_size)

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the feature map (N, F, h, w) of normalised images (N, 3, S, S). Raises ConfigError if it fails."""
        try:
            return self.module(images)  # type: ignore[no-any-return]
        except MlopsError:
            raise
        except Exception as error:
            raise failed(self.reference, error) from error

    def _count_features(self, size: int) -> int:
        training = self.module.training
        self.module.eval()
        with torch.no_grad():
            found: Any = self.forward_features(torch.zeros(2, 3, size, size))
        self.module.train(training)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            raise ConfigError(f"{self.reference}: the network returns {_kind(found)}", "return a tensor of floats")
        if found.ndim != 4 or found.shape[0] != 2:
            raise ConfigError(
                f"{self.reference}: the network makes {tuple(found.shape)} of images (2, 3, {size}, {size})",
                "return the last feature map, (N, F, h, w), without pooling and without a layer for the classes",
            )
        return int(found.shape[1])


def _built(reference: CodeReference, offered: dict[str, Any]) -> nn.Module:
    function = load(reference)
    if not callable(function):
        raise ConfigError(
            f"{reference} is {_kind(function)}", "name a function, or a class, that returns a torch.nn.Module"
        )
    known = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known)
    given = {name: value for name, value in offered.items() if takes_all or name in {each.name for each in known}}
    missing = [
        each.name
        for each in known
        if each.default is each.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        and each.name not in given
    ]
    if missing:
        raise ConfigError(
            f"{reference} needs {', '.join(missing)}, which it is not given",
            f"give each a default; it is called with those of {' and '.join(offered)} that it has as parameters",
        )
    try:
        module = function(**given)
    except MlopsError:
        raise
    except Exception as error:
        raise failed(reference, error) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{reference} returns {_kind(module)}", "return a torch.nn.Module")
    return module


def _of_channels(
    reference: CodeReference, module: nn.Module, name: str, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Return mean or deviation of the colour channels, from 0 to 1, that a network asks for."""
    given = getattr(module, name, default)
    try:
        values = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or (name == "std" and min(values) <= 0):
        raise ConfigError(f"{reference}: its {name} is {given!r}", f"set {name} to three numbers, such as {default}")
    return values


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"
