"""Own code is tried by the command that is about to run it, on as many classes as its images have."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from testing.support.quick_training import write_colours
from typer.testing import CliRunner

from vision_mlops.cli.jobs.own_code_trial import try_metrics, try_network
from vision_mlops.cli.main import app
from vision_mlops.config import load_workload
from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import ConfigError, MlopsError, TrainingError
from vision_mlops.data import data_versions
from vision_mlops.data.folder_contents import describe

CODE = """\
import numpy as np

def costs(labels, probabilities):
    print("a line")
    return -(np.ones((2, 2)) - np.eye(2))[labels, probabilities.argmax(axis=1)].mean()

def one(labels):
    return 1

def random(labels, probabilities):
    return np.random.rand()

def elsewhere(labels, probabilities):
    import a_package_of_the_step

def half(images):
    return images[:, :, ::2, ::2]

def noise(images):
    import torch
    return images + torch.rand_like(images)

def breaks(images):
    return images.nothing

def same(images):
    print("a line")
    return images * 1.0
"""
METRIC = "evaluation.metrics=[own_trial:{}]"


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Images of two classes, in a project with own code and one workload."""
    (tmp_path / "own_trial.py").write_text(CODE)
    (tmp_path / "mine.yml").write_text("name: mine\ndata: {path: colours}\nmodel: {image_size: 32}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield write_colours(tmp_path / "colours")
    sys.modules.pop("own_trial", None)


def mine(*changes: str) -> Workload:
    return load_workload("mine.yml", changes)


def refused(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--workload", "mine.yml"])
    assert isinstance(result.exception, MlopsError), result.output
    assert result.stdout == ""
    return str(result.exception)


@pytest.mark.parametrize(
    "command",
    [
        ("run",),
        ("run", "--on", "azure"),
        ("demo",),
        ("pipeline", "watch", "--once", "--data", "colours"),
        ("config", "check"),
    ],
)
def test_a_broken_metric_is_refused_before_anything_is_started(command: tuple[str, ...], home: Path) -> None:
    told = refused(*command, "--set", METRIC.format("random"))
    assert re.match("evaluation.metrics: own_trial:random does not return the same .* of 2 classes", told), told
    assert not home.exists()


def test_what_cannot_be_tried_here_is_said_and_not_refused(capfd: pytest.CaptureFixture[str]) -> None:
    try_metrics(mine(METRIC.format("costs")))
    assert capfd.readouterr() == ("", "a line\na line\n"), "standard output is that of the command"
    try_metrics(mine(METRIC.format("elsewhere")))
    said = capfd.readouterr().err
    assert said.startswith("note: not tried before the evaluation: evaluation.metrics: own_trial:elsewhere failed: "), (
        said
    )
    assert "No module named 'a_package_of_the_step'" in said
    for place in ("gone", "azureml:gone:1", "azureml://datastores/images/paths/gone"):
        try_metrics(mine(METRIC.format("random"), f"data.path={place}"))
        said = capfd.readouterr().err
        assert said.startswith("note: evaluation.metrics: own_trial:random is not tried before the evaluation: "), said
        assert "gone" in said
    with pytest.raises(ConfigError, match="cannot be called as one"):
        try_metrics(mine(METRIC.format("one"), "data.path=gone"))


def test_classes_are_those_with_enough_images(images: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (images / "rare").mkdir()
    Image.new("RGB", (32, 32)).save(images / "rare" / "0.png")
    data_versions.register(describe(images), "colours")
    for place in ("colours", "azureml:colours:1"):
        try_metrics(mine(METRIC.format("costs"), f"data.path={place}"))
        assert "note:" not in capfd.readouterr().err
        with pytest.raises(ConfigError, match=r"IndexError.* of 3 classes"):
            try_metrics(mine(METRIC.format("costs"), f"data.path={place}", "data.min_images_per_class=1"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.transform=own_trial:half", r"model.transform: own_trial:half makes \(5, 3, 16, 16\)"),
        ("model.transform=own_trial:noise", "does not return the same for the same images twice"),
        ("training.augment.transform=own_trial:breaks", r"own_trial:breaks failed: own_trial.py:\d+: AttributeError"),
        ("model.backbone=own_trial:same", r"own_trial:same needs images, which it is not given"),
    ],
)
def test_config_check_tries_what_becomes_a_part_of_the_network(change: str, message: str) -> None:
    with_timm = () if "backbone" in change else ("--set", "model.backbone=test_resnet")
    frozen = ("--set", "model.frozen_stages=0")
    assert re.search(message, refused("config", "check", *with_timm, *frozen, "--set", change))


def test_config_check_loads_no_weights_and_needs_no_torch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # timm has pretrained weights of this network on the internet only.
    changes = ("model.backbone=test_resnet", "model.frozen_stages=0", "model.pretrained=true")
    good, bad = (mine(*changes, f"training.augment.transform=own_trial:{name}") for name in ("same", "half"))
    try_network(good)
    assert capfd.readouterr() == ("", "a line\n")
    with pytest.raises(TrainingError):
        try_network(bad)
    monkeypatch.delitem(sys.modules, "vision_mlops.model.network", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    try_network(bad)
    said = capfd.readouterr().err
    assert said == (
        "note: training.augment.transform: own_trial:half is tried when training starts: torch is not installed here\n"
    )
