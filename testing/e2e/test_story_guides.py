"""The story of the guides, from the first model to Azure, run as it stands by one reader in one folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testing.support.guide_blocks import ROOT
from testing.support.guide_list import QUICK, STORY
from testing.support.guide_run import GuideRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuideRun]:
    run = GuideRun(tmp_path_factory.mktemp("reader") / "project", QUICK)
    yield run
    run.close()


def test_the_story(reader: GuideRun) -> None:
    for name in STORY:
        reader.run(ROOT / "docs" / "how_to" / name)
