"""Own code is tried before it trains: what a bundle can carry passes, and all else is refused with its reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from testing.support.prepared_data import make_prepared

from vision_mlops.config import Workload, load_workload
from vision_mlops.core.errors import MlopsError, TrainingError
from vision_mlops.model import embedding
from vision_mlops.model.network import Classifier
from vision_mlops.model.own_layers import own_transform
from vision_mlops.model.predictor import Predictor
from vision_mlops.training.fit import fit
from vision_mlops.training.own_code_check import check_own_code
from vision_mlops.training.training_batches import prefix_cache_fits

IMAGES = """\
import numpy as np
import torch


def grey_world(images):
    means = images.mean((2, 3), keepdim=True)
    return images * means.mean(1, keepdim=True) / means.clamp(min=0.01)

def mirrored_where_even(images):
    return images if images.shape[-1] % 2 else images.flip(3)

def where(images):
    return torch.where(images > 0.5, images, images / 2)

def noise(images):
    images += torch.rand_like(images)
    return images

def state(images, calls=[]):
    calls.append(1)
    return images * len(calls)

def batch_mean(images):
    return images - images.mean()

def in_place(images):
    return images.mul_(0.5)

def branch(images):
    if images[0, 0, 0, 0] > 0.5:
        return 1 - images
    return images

def item(images):
    return images * float(images[0].mean())

def by_numpy(images):
    return torch.from_numpy(np.sqrt(images.numpy()))

def loop(images):
    return torch.stack([image / 2 for image in images])

def no_operator(images):
    return torch.fft.fft2(images).abs()

def multiplied(images):
    return images @ torch.eye(images.shape[-1], device=images.device)

def half(images):
    return images[:, :, ::2, ::2]

def double(images):
    return images.double()

def nothing(images):
    images + 1

def divides(images):
    return images / images.std((2, 3), keepdim=True)

def breaks(images):
    return images.nothing
"""
NETS = """\
import torch
from torch import nn


class Net(nn.Module):
    mean = (0.5, 0.5, 0.5)

    def __init__(self, image_size, pretrained=True, last=None):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.stem.weight.requires_grad_(False)
        self.norm = nn.BatchNorm2d(8)
        self.last = last or nn.ReLU()
        self.offered = (pretrained, image_size)

    def forward(self, images):
        return self.last(self.norm(self.stem(images)))

class Dropping(Net):
    def forward(self, images):
        return nn.functional.dropout(super().forward(images))

def pooled(image_size):
    return Net(image_size, last=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))

def wide(width):
    return Net(width)

def none():
    return None

def odd_mean(image_size):
    net = Net(image_size)
    net.mean = 0.5
    return net

def breaks():
    raise OSError("no weights")
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder is that of a project with own code."""
    (tmp_path / "own_images.py").write_text(IMAGES)
    (tmp_path / "own_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("own_images", "own_nets"):
        sys.modules.pop(name, None)


def workload(*changes: str) -> Workload:
    quick = ("model.pretrained=false", "model.image_size=32", "model.frozen_stages=0", "training.batch_size=8")
    return load_workload("textile", ["model.backbone=test_resnet", *quick, "training.epochs=2", *changes])


def check(*changes: str) -> Classifier:
    loaded = workload(*changes)
    network = Classifier(loaded.model, 3)
    check_own_code(network, loaded.training.augment)
    return network


@pytest.mark.parametrize(
    "change",
    [
        "model.transform=own_images:grey_world",
        "model.transform=own_images:mirrored_where_even",
        "model.transform=own_images:where",
        "training.augment.transform=own_images:noise",
        "model.backbone=own_nets:Net",
    ],
)
def test_what_a_bundle_can_carry_passes_and_leaves_no_trace(change: str, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = workload(change)
    network = Classifier(loaded.model, 3)
    before, drawn = {key: value.clone() for key, value in network.state_dict().items()}, torch.get_rng_state()
    check_own_code(network, loaded.training.augment)
    assert torch.equal(drawn, torch.get_rng_state()), "what is drawn afterwards is the same as without the check"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise", "does not return the same|changes the images that it is given"),
        ("state", "does not return the same for the same images twice"),
        ("batch_mean", "depends on the other images of its batch"),
        ("in_place", r"changes the images that it is given\n  -> work on a copy"),
        ("branch", r"decides by the pixels what to do, at own_images.py:\d+\n.*torch.where instead of if"),
        ("item", r"decides by the pixels what to do, at own_images.py:\d+\n"),
        ("by_numpy", "does not compute in ONNX what it computes in torch"),
        ("loop", "does not compute in ONNX what it computes in torch"),
        (
            "no_operator",
            r"cannot be exported to ONNX: Exporting the operator 'aten::fft_fft2' to ONNX .* is not supported",
        ),
        ("half", r"makes \(5, 3, 16, 16\) float32 of \(5, 3, 32, 32\) float32"),
        ("double", r"makes \(5, 3, 32, 32\) float64 of"),
        ("nothing", "returns a NoneType"),
        ("divides", "returns numbers that are not finite"),
        ("breaks", r"failed: own_images.py:\d+: AttributeError: 'Tensor' object has no attribute 'nothing'"),
    ],
)
def test_a_transform_that_a_bundle_could_not_carry(name: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MlopsError, match=f"^model.transform: own_images:{name}.*({message})"):
        check(f"model.transform=own_images:{name}")
    assert "graph(" not in "".join(capfd.readouterr()), "torch prints no graphs"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Dropping", "does not return the same for the same images twice"),
        ("pooled", r"makes \(2, 8\) of images \(2, 3, 32, 32\)\n  -> return the last feature map"),
        ("wide", "needs width, which it is not given"),
        ("none", "returns None\n  -> return a torch.nn.Module"),
        ("odd_mean", "its mean is 0.5\n  -> set mean to three numbers"),
        ("breaks", r"failed: own_nets.py:\d+: OSError: no weights"),
    ],
)
def test_a_backbone_that_is_none(name: str, message: str) -> None:
    with pytest.raises(MlopsError, match=f"^model.backbone: own_nets:{name}.*{message}"):
        check(f"model.backbone=own_nets:{name}")


def test_an_own_backbone_is_used_like_others() -> None:
    network = check("model.backbone=own_nets:Net", "model.pretrained=true").train()
    assert network.backbone.module.offered == (True, 32)
    assert network.mean.flatten().tolist() == [127.5] * 3
    assert network.frozen == {"module.stem.weight"}
    assert not prefix_cache_fits(network, workload("model.backbone=own_nets:Net"), 10)
    assert network(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape == (2, 3)


def test_a_transform_computes_in_full_precision_as_it_is_served() -> None:
    transform = own_transform("own_images:multiplied", "model.transform")
    assert transform is not None
    images = torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (images @ torch.eye(8)).dtype == torch.bfloat16
        assert torch.equal(transform(images), images)


def test_a_random_transform_of_training_makes_no_prefix_cache() -> None:
    plain = ("model.backbone=tf_efficientnet_lite0", "model.frozen_stages=3", "training.epochs=4")
    network = Classifier(workload(*plain, "model.transform=own_images:grey_world").model, 3)
    assert prefix_cache_fits(network, workload(*plain), 10)
    assert not prefix_cache_fits(network, workload(*plain, "training.augment.transform=own_images:noise"), 10)


def test_features_are_computed_anew_for_other_code(project: Path) -> None:
    model = workload("model.backbone=own_nets:Net").model
    before = embedding.graph_path(model)
    (project / "own_images.py").write_text(f"{IMAGES}\n# changed\n")
    assert embedding.graph_path(model) == before
    (project / "own_nets.py").write_text(f"{NETS}\n# changed\n")
    assert embedding.graph_path(model) != before


@pytest.mark.slow
def test_own_code_trains_is_served_without_its_files_and_resumed_only_unchanged(
    project: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = project / "data", project / "bundle"
    make_prepared(data, train=8, val=4, test=4)
    own = (
        "model.backbone=own_nets:Net",
        "model.transform=own_images:where",
        "training.augment.transform=own_images:noise",
    )
    chosen = workload(*own)
    fitted = fit(chosen, data, out, progress=False)
    assert fitted is not None
    assert set(fitted.bundle.own_code) == {"own_images.py", "own_nets.py"}
    assert fitted.bundle.parity["agreement"] == 1.0
    assert fitted.bundle.workload["model"]["backbone"] == "own_nets:Net"  # type: ignore[index]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vision_mlops.training.fit._FineTuningRun.finish", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(chosen, data, project / "second", progress=False)
    (project / "own_nets.py").write_text(f"{NETS}\n# changed\n")
    with pytest.raises(TrainingError, match="was started with other values of own code"):
        fit(chosen, data, project / "second", resume=True, progress=False)
    for name in fitted.bundle.own_code:
        (project / name).unlink()
    predictor = Predictor(out)
    assert predictor.score([np.zeros((32, 32, 3), np.uint8)], explain=True).activation_maps is not None
    with pytest.raises(MlopsError, match="the module 'own_images' is neither in"):
        Classifier(chosen.model, 3)
