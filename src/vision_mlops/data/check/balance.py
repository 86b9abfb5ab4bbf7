"""How many images each class has, in all and in each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from vision_mlops.core.errors import Severity
from vision_mlops.core.text import counted
from vision_mlops.data.check.dataset_findings import DatasetFinding
from vision_mlops.data.check.file_listing import ImageListing
from vision_mlops.data.check.image_scan import Scan
from vision_mlops.data.manifest import UNSPLIT

IMBALANCE = 10.0
"""The largest class may have this many times the images of the smallest."""

ClassCounts = dict[str, dict[str, int]]


def counts(listing: ImageListing, scan: Scan) -> ClassCounts:
    """Count the readable images of each class in each split; the split is ``all`` if the folder is not split."""
    found = Counter(
        (listing.entries[i].split or UNSPLIT, listing.entries[i].label)
        for i, look in enumerate(scan.looks)
        if not look.reason
    )
    splits = listing.splits or [UNSPLIT]
    return {label: {split: found[split, label] for split in splits} for label in listing.classes}


def find(numbers: ClassCounts, smallest: int) -> Iterator[DatasetFinding]:
    """Find classes that are missing, small, or far smaller than the others. ``smallest`` is what preparing requires."""
    if len(numbers) == 1:
        only = next(iter(numbers))
        yield DatasetFinding("missing-class", f"{only!r} is the only class; a classifier needs at least two")
    for label, of in numbers.items():
        for split, count in of.items():
            if split != UNSPLIT and count == 0:
                worst = Severity.ERROR if split != "val" else Severity.WARNING
                yield DatasetFinding(
                    "missing-class", f"class {label!r} has no readable image in {split}", severity=worst
                )
        total = sum(of.values())
        if total < smallest:
            message = f"class {label!r} has {counted(total, 'readable image')}, fewer than {smallest}"
            yield DatasetFinding("small-class", message)
    totals = {label: sum(of.values()) for label, of in numbers.items() if sum(of.values())}
    if len(totals) > 1:
        least, most = min(totals, key=lambda name: totals[name]), max(totals, key=lambda name: totals[name])
        ratio = totals[most] / totals[least]
        if ratio > IMBALANCE:
            message = (
                f"class {most!r} has {ratio:.0f} times the images of {least!r} ({totals[most]} and {totals[least]})"
            )
            yield DatasetFinding("imbalance", message, details={"ratio": round(ratio, 1)})
