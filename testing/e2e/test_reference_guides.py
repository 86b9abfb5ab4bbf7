"""The guides to one subject each, run as they stand by a reader who has trained a model on images of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from testing.support.guide_blocks import ROOT
from testing.support.guide_list import BEGINNING, QUICK, REFERENCE
from testing.support.guide_run import GuideRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuideRun]:
    run = GuideRun(tmp_path_factory.mktemp("reader") / "project", QUICK)
    for name in BEGINNING:
        run.run(ROOT / "docs" / "how_to" / name)
    yield run
    run.close()


def benchmark(reader: GuideRun, printed: list[str]) -> None:
    assert {"from-scratch", "knn", "linear-probe", "ours"} <= set(re.findall(r"^[a-z-]+", printed[0], re.MULTILINE))
    assert any(re.search(r"^mean-colour ", text, re.MULTILINE) for text in printed)
    assert (reader.folder / "outputs" / "benchmark.html").is_file()


def automl(reader: GuideRun, printed: list[str]) -> None:
    run, clean = printed
    assert re.search(r"^automl-images +\d\.\d{4} ", run, re.MULTILINE)
    results = reader.folder / "outputs" / "benchmarks" / "fabric"
    assert "vm_hour.Standard_NC4as_T4_v3" in (results / "automl-images" / "result.json").read_text()
    assert re.search(r"job automl-fabric-\S+ is archived", clean)
    assert re.search(r"\d+ files removed from azureml://", clean)
    assert not list((results / ".work").glob("automl-images/*"))


def custom_vision(reader: GuideRun, printed: list[str]) -> None:
    assert "custom-vision" in printed[0]
    assert re.search(r"recorded on \d{4}-", "".join(printed))
    assert "has no project" not in printed[-1], "there was one to remove"
    results = reader.folder / "outputs" / "benchmarks" / "fabric"
    assert "custom-vision" in (results / "report.html").read_text()


def batch(reader: GuideRun, printed: list[str]) -> None:
    assert len((reader.folder / "outputs" / "scores.csv").read_text().splitlines()) == 361


CHECKS: dict[str, Callable[[GuideRun, list[str]], None]] = {
    "automl_images.md": automl,
    "batch.md": batch,
    "benchmark.md": benchmark,
    "custom_vision.md": custom_vision,
}


@pytest.mark.parametrize("name", REFERENCE)
def test_guide(reader: GuideRun, name: str) -> None:
    printed = reader.run(ROOT / "docs" / "how_to" / name)
    if name in CHECKS:
        CHECKS[name](reader, printed)
