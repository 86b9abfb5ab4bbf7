"""The whole check of a folder: read every file once, then judge files, copies, looks, balance and labels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import MissingExtraError
from vision_mlops.data.check import balance, duplicates, image_quality, label_errors
from vision_mlops.data.check.balance import ClassCounts
from vision_mlops.data.check.dataset_findings import SCHEMA_VERSION, DatasetFinding, by_kind, by_severity
from vision_mlops.data.check.file_listing import ImageListing
from vision_mlops.data.check.image_scan import Embedder, ImageAppearance, Progress, scan
from vision_mlops.data.check.label_errors import LabelCheck
from vision_mlops.images.decoding import MAX_PIXELS

_KIND_OF_REASON = {
    "not_an_image": "not-an-image",
    "unsupported_format": "unsupported-format",
    "unreadable": "unreadable",
    "too_large": "too-large",
}


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What a check measures against.

    Args:
        image_size: Edge that the network will take, in pixels.
        assumed: Whether it is only the default, because no workload is named.
        max_pixels: Images with more pixels are not decoded, as when data are prepared.
        smallest_class: Images that a class needs to be prepared.
        no_labels: Why labels are not checked; empty if they are.
    """

    image_size: int = 224
    assumed: bool = False
    max_pixels: int = MAX_PIXELS
    smallest_class: int = 5
    no_labels: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found, with what it looked at."""

    name: str
    listing: ImageListing
    looks: list[ImageAppearance]
    counts: ClassCounts
    findings: list[DatasetFinding]
    labels: LabelCheck
    seconds: float
    created: str

    def to_dict(self) -> dict[str, Any]:
        """Return the content of report.json: everything, whereas the page shows the first of each kind."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "folder": str(self.listing.root).encode("utf-8", "backslashreplace").decode(),
            "prepared": self.listing.prepared,
            "created": self.created,
            "seconds": round(self.seconds, 2),
            "images": len(self.listing.entries),
            "severities": by_severity(self.findings),
            "kinds": {kind: len(found) for kind, found in by_kind(self.findings).items()},
            "counts": self.counts,
            "labels": {
                "checked": self.labels.checked,
                "accuracy": None if self.labels.accuracy is None else round(self.labels.accuracy, 4),
                "skipped": self.labels.skipped,
            },
            "findings": [finding.to_dict() for found in by_kind(self.findings).values() for finding in found],
        }


def check(
    name: str,
    listing: ImageListing,
    scratch: Path,
    *,
    settings: CheckSettings,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Check the files of a listing.

    Args:
        name: What the report calls the dataset.
        listing: The files.
        scratch: Existing folder on a disk with room for about 5 kB per image; nothing stays there.
        settings: Limits.
        embedder: The network whose features judge the labels; without it, labels are not checked.
        progress: Called with (done, total) after each few files.
    """
    started = time.perf_counter()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    reading = scan(listing.entries, scratch, embedder=embedder, max_pixels=settings.max_pixels, progress=progress)
    with reading as found:
        findings = [*listing.findings, *_files(listing, found.looks)]
        exact = duplicates.exact_groups(found)
        near = duplicates.near_groups(found)
        findings += duplicates.find(listing, found, exact, near)
        findings += image_quality.find(listing, found, settings.image_size, assumed=settings.assumed)
        counts = balance.counts(listing, found)
        findings += balance.find(counts, settings.smallest_class)
        verdict = LabelCheck(skipped=settings.no_labels or "no network was given")
        if embedder is not None and not settings.no_labels:
            try:
                doubts, verdict = label_errors.find(listing, found, [*exact, *near], scratch)
                findings += doubts
            except MissingExtraError as error:
                verdict = LabelCheck(skipped=f"{error.message}: {error.hint}")
        if verdict.skipped:
            findings.append(DatasetFinding("skipped", f"labels were not checked: {verdict.skipped}"))
        return CheckResult(
            name, listing, found.looks, counts, findings, verdict, time.perf_counter() - started, created
        )


def _files(listing: ImageListing, looks: list[ImageAppearance]) -> Iterator[DatasetFinding]:
    """Find files that do not decode, and prepared ones that no longer match the manifest."""
    for index, look in enumerate(looks):
        file = listing.entries[index]
        if look.reason:
            details = {"reason": look.reason}
            yield DatasetFinding(_KIND_OF_REASON.get(look.reason, "corrupt"), look.message, (file,), details=details)
        if file.sha256 and look.sha256 and look.sha256.hex() != file.sha256:
            yield DatasetFinding("changed-file", f"{file.path}: its content does not match the manifest", (file,))
