"""The guides to one subject each, run as they stand by a reader who has read the beginning of the story."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testing.support.guide_blocks import ROOT
from testing.support.guide_list import BEGINNING, QUICK, REFERENCE
from testing.support.guide_run import GuideRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuideRun]:
    run = GuideRun(tmp_path_factory.mktemp("reader") / "project", QUICK)
    for name in BEGINNING:
        run.run(ROOT / "docs" / "how_to" / name)
    yield run
    run.close()


@pytest.mark.parametrize("name", REFERENCE)
def test_guide(reader: GuideRun, name: str) -> None:
    reader.run(ROOT / "docs" / "how_to" / name)
