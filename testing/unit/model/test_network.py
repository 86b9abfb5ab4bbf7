"""The network: frozen stages, the split into prefix and tail, feature maps of different families."""

from __future__ import annotations

import pytest
import torch

from vision_mlops.config.workload import Model
from vision_mlops.core.errors import TrainingError
from vision_mlops.model.network import Classifier, ExportedClassifier


def pixels(size: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)


def test_lite0_starts_from_bundled_weights() -> None:
    """Two networks agree on the backbone, whatever the random state: the weights come from the package."""
    torch.manual_seed(1)
    first = Classifier(Model(), 3)
    torch.manual_seed(2)
    second = Classifier(Model(), 3)
    ours, theirs = first.backbone.state_dict(), second.backbone.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(first.head.weight, second.head.weight)


def test_frozen_stages_neither_learn_nor_drift() -> None:
    network = Classifier(Model(frozen_stages=2), 3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    torch.nn.functional.cross_entropy(network(pixels(64)), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    after = network.state_dict()
    frozen = ("backbone.conv_stem", "backbone.bn1.", "backbone.blocks.0.", "backbone.blocks.1.")
    for key, value in before.items():
        if key.startswith(frozen):
            assert torch.equal(value, after[key]), key
    assert not torch.equal(before["backbone.blocks.2.0.conv_pw.weight"], after["backbone.blocks.2.0.conv_pw.weight"])
    assert not torch.equal(
        before["backbone.blocks.2.0.bn1.running_mean"], after["backbone.blocks.2.0.bn1.running_mean"]
    )


def test_prefix_and_tail_make_the_whole_network() -> None:
    network = Classifier(Model(frozen_stages=2), 3).eval()
    images = pixels(64)
    with torch.inference_mode():
        torch.testing.assert_close(network.tail(network.prefix(images)), network(images))


@pytest.mark.parametrize(("backbone", "size"), [("test_vit", 160), ("test_resnet", 64), ("test_convnext", 64)])
def test_families_give_a_map_whose_mean_is_the_logit(backbone: str, size: int) -> None:
    network = Classifier(Model(backbone=backbone, pretrained=False, image_size=size, frozen_stages=1), 4).eval()
    images = pixels(size)
    with torch.inference_mode():
        probabilities, activation = ExportedClassifier(network, temperature=1.0)(images)
        logits = network(images)
    assert probabilities.shape == (2, 4)
    assert activation.ndim == 4
    torch.testing.assert_close(activation.mean((2, 3)) + network.head.bias, logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "efficientnet_b00"}, "timm has no model 'efficientnet_b00'"),
        ({"frozen_stages": 40}, "model.frozen_stages=40, but tf_efficientnet_lite0 has"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Classifier(Model.model_validate({"backbone": "tf_efficientnet_lite0", **changes}), 3)
