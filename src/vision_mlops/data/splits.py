"""Stratified, seeded and leak-free splits: files with equal content always end up on one side."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

from vision_mlops.config.workload import Split
from vision_mlops.data.manifest import SplitName


def assign(items: Iterable[tuple[str, str]], split: Split) -> dict[str, SplitName]:
    """Give each content hash a split.

    Args:
        items: (sha256, label) per file; a hash that occurs several times counts once, and has one label.
        split: Fractions and seed. A fraction of 0 leaves its split empty.

    Returns:
        Split by hash. It depends on contents and seed only, not on names or order. Each class with at least as many
        distinct images as there are splits has one in each.
    """
    by_label: dict[str, set[str]] = defaultdict(set)
    for content, label in items:
        by_label[label].add(content)
    result: dict[str, SplitName] = {}
    for label in sorted(by_label):
        contents = sorted(by_label[label])
        random.Random(f"{split.seed}:{label}").shuffle(contents)
        sizes = _sizes(len(contents), {"train": split.train, "val": split.val, "test": split.test})
        start = 0
        for name, size in sizes.items():
            result.update(dict.fromkeys(contents[start : start + size], name))
            start += size
    return result


def _sizes(count: int, fractions: dict[SplitName, float]) -> dict[SplitName, int]:
    """Return sizes that sum to ``count``: largest remainders, but no wanted split stays empty while another has two."""
    exact = {name: count * fraction for name, fraction in fractions.items()}
    sizes = {name: int(value + 1e-9) for name, value in exact.items()}
    for name in sorted(exact, key=lambda key: sizes[key] - exact[key])[: count - sum(sizes.values())]:
        sizes[name] += 1
    for name, fraction in fractions.items():
        largest = max(sizes, key=lambda key: sizes[key])
        if fraction > 0 and sizes[name] == 0 and sizes[largest] > 1:
            sizes[name] += 1
            sizes[largest] -= 1
    return sizes
