"""The contestants that need no account learn what can be learnt, and the features are computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vision_mlops.benchmark.arena import Arena
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.contestants import find_contestants
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
    assert len(list(BenchmarkFolder("colours").features.iterdir())) == 1


def test_a_seed_gives_the_same_network(arena: Callable[[], Arena]) -> None:
    scratch = find_contestants(["from-scratch"])
    first, second = (arena().run(scratch, again=True).measured[0] for _ in range(2))
    assert first.metrics == second.metrics
