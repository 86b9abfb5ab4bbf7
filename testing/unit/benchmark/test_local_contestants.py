"""The contestants that need no account learn what can be learnt, and the features are computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vision_mlops.benchmark.arena import Arena
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.contestants import find_contestants
from vision_mlops.benchmark.service_prices import load_prices
from vision_mlops.benchmark.standings import standings
from vision_mlops.config import load_workload
from vision_mlops.model import embedding

pytestmark = pytest.mark.slow


@pytest.mark.timeout(120)
def test_local_contestants(arena: Callable[[], Arena], store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    whole = embedding.Embedding.__call__

    def call(self: embedding.Embedding, pixels: np.ndarray) -> np.ndarray:
        seen.append(len(pixels))
        return whole(self, pixels)

    monkeypatch.setattr(embedding.Embedding, "__call__", call)
    entries = find_contestants([])
    assert [entry.name for entry in entries] == ["ours", "linear-probe", "knn", "from-scratch"]
    ended = arena().run(entries)
    assert not ended.failed
    found = {result.name: result for result in ended.measured}
    assert all(found[name].metrics["accuracy"] == 1.0 for name in ("linear-probe", "knn", "from-scratch"))
    assert all(result.size_bytes and result.training_seconds for result in found.values())
    # 36 images of train and val once; per contestant 12 of test, two looks at each with one more, and one of zeros.
    assert sum(seen) == 36 + 2 * (12 + 2 * 12 + 1 + 1)
    folder = BenchmarkFolder("colours")
    assert len(list(folder.features.iterdir())) == 1
    assert not any(row.other_settings for row in standings(folder, load_prices()).rows)
    seen.clear()
    smaller = arena()
    smaller.workload = load_workload("colours.yml", ["model.image_size=24"])
    for again in (False, True):  # --again computes the features anew
        assert smaller.run(find_contestants(["knn"]), again=again).measured
    assert sum(seen) == 2 * (36 + 12 + 2 * 12 + 1 + 1)
    other = {row.result.name: row.other_settings for row in standings(folder, load_prices()).rows if row.other_settings}
    assert other == {"knn": "image_size 24 (ours 32)"}


def test_a_seed_gives_the_same_network(arena: Callable[[], Arena]) -> None:
    scratch = find_contestants(["from-scratch"])
    first, second = (arena().run(scratch, again=True).measured[0] for _ in range(2))
    assert first.metrics == second.metrics
