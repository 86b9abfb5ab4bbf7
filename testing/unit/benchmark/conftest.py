"""A workload of three colours, prepared, and the contestants of the tests as they are before anything is asked of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testing.support.contestants import MeanColour, ServiceColour
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner, Result

from vision_mlops.benchmark.arena import Arena
from vision_mlops.cli.main import app
from vision_mlops.config import load_workload

WORKLOAD = """
name: colours
data: {source: folder, path: photos}
model: {backbone: test_resnet, pretrained: false, image_size: 32, frozen_stages: 0}
training: {epochs: 1, batch_size: 8}
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing was asked of the contestants yet, and what a test has imported from its folder is forgotten after it."""
    monkeypatch.setattr(MeanColour, "calls", [])
    monkeypatch.setattr(ServiceColour, "requests", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")
    yield
    for name in ("mine", "beside"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared data, and the file of the workload, in the folder where the test is."""
    monkeypatch.chdir(tmp_path)
    make_prepared(tmp_path / "prepared")
    (tmp_path / "colours.yml").write_text(WORKLOAD)
    return tmp_path / "prepared"


@pytest.fixture
def arena(data: Path) -> Callable[[], Arena]:
    """Open the arena, as each command does anew."""
    return lambda: Arena(load_workload("colours.yml"), data, lambda _: None)


@pytest.fixture
def mlops(store: Path, data: Path) -> Callable[..., Result]:
    """Run a command of ``mlops benchmark``."""
    return lambda *words: CliRunner().invoke(app, ["benchmark", *map(str, words)])
