"""The story of the guides, from the first model to Azure, run as it stands by one reader in one folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testing.support.guide_blocks import ROOT
from testing.support.guide_list import QUICK, STORY
from testing.support.guide_run import GuideRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuideRun]:
    run = GuideRun(tmp_path_factory.mktemp("reader") / "project", QUICK)
    yield run
    run.close()


def test_the_story(reader: GuideRun) -> None:
    printed = {name: "\n".join(reader.run(ROOT / "docs" / "how_to" / name)) for name in STORY}
    for version, name in enumerate(("own_images.md", "second_version.md", "corrections.md"), 1):
        assert f"registered: fabric:{version}; fabric@champion is fabric:{version}" in printed[name]
    for version, name in ((2, "rollout.md"), (1, "rollout.md"), (3, "corrections.md")):
        assert f"version-{version} (fabric:{version}) has all traffic of fabric" in printed[name]
    assert 'scoring_predictions_total{label="local"}' in printed["monitor.md"]
    assert "azureml:fabric:1" in printed["corrections.md"]
    assert "removed: online endpoint fabric" in printed["laptop_to_azure.md"]
