"""Findings: what a check can say about a dataset, how bad it is, and how to fix it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import Severity

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding: its usual severity, its heading, how to fix it, and whether ``--fix`` can move its files."""

    severity: Severity
    title: str
    remedy: str
    fixable: bool = False


KINDS: dict[str, Kind] = {
    "corrupt": Kind(Severity.ERROR, "Corrupt files", "replace or remove the file", True),
    "not-an-image": Kind(
        Severity.ERROR, "Image files that are not images", "remove the file, or give it its right suffix", True
    ),
    "unsupported-format": Kind(
        Severity.ERROR, "Images in a format that cannot be read here", "convert them to JPEG or PNG", True
    ),
    "unreadable": Kind(
        Severity.ERROR,
        "Unreadable files and broken links",
        "check the permissions and the disk; for a broken link, restore its target or remove the link",
    ),
    "too-large": Kind(Severity.ERROR, "Images with too many pixels", "scale the image down", True),
    "missing-file": Kind(Severity.ERROR, "Files of the manifest that are missing", "run `mlops data prepare` again"),
    "changed-file": Kind(Severity.ERROR, "Files changed after they were prepared", "run `mlops data prepare` again"),
    "conflict": Kind(
        Severity.ERROR,
        "The same picture under two classes",
        "decide on its class and remove the other copies",
        True,
    ),
    "leak": Kind(Severity.ERROR, "The same picture in two splits", "keep it in one split: test, or else val", True),
    "missing-class": Kind(Severity.ERROR, "Classes missing from a split", "add images of the class, or split again"),
    "empty-class": Kind(Severity.WARNING, "Class folders without images", "add images, or remove the folder"),
    "small-class": Kind(Severity.WARNING, "Classes with few images", "collect more images, or merge the class"),
    "imbalance": Kind(
        Severity.WARNING,
        "Class imbalance",
        "collect images of the small class; training weights the classes automatically",
    ),
    "exact-duplicate": Kind(Severity.WARNING, "Exact duplicates", "keep one copy", True),
    "near-duplicate": Kind(Severity.WARNING, "Near duplicates", "keep the best copy", True),
    "label-error": Kind(Severity.WARNING, "Suspected label errors", "look at it and move it to the right class", True),
    "blank": Kind(Severity.WARNING, "Blank images", "remove the image", True),
    "too-small": Kind(Severity.WARNING, "Images too small for the network", "use larger originals", True),
    "bad-name": Kind(
        Severity.WARNING, "Names that are not UTF-8", "rename the file: `mlops data prepare` leaves it out"
    ),
    "loose": Kind(Severity.WARNING, "Images outside the class folders", "move them into a class folder"),
    "lookalike-class": Kind(
        Severity.WARNING,
        "Classes whose names look the same",
        "merge the folders, or give the classes other names",
    ),
    "not-used": Kind(
        Severity.WARNING,
        "Links, hidden folders and other things that are not used",
        "remove it, or put files in its place",
    ),
    "dark": Kind(Severity.NOTE, "Dark images", "check whether the picture is still recognizable", True),
    "bright": Kind(Severity.NOTE, "Overexposed images", "check whether the picture is still recognizable", True),
    "low-contrast": Kind(
        Severity.NOTE, "Images with little contrast", "check whether the picture is still recognizable", True
    ),
    "blurred": Kind(Severity.NOTE, "Blurred images", "check whether the picture is still recognizable", True),
    "odd-size": Kind(Severity.NOTE, "Unusual sizes", "check where the image comes from", True),
    "odd-aspect": Kind(Severity.NOTE, "Unusual proportions", "check whether it is cut off or a scan of several", True),
    "not-listed": Kind(Severity.NOTE, "Images that the manifest does not list", "run `mlops data prepare` again"),
    "ignored": Kind(Severity.NOTE, "Files that are not images", "nothing, if they are meant to be there"),
    "skipped": Kind(Severity.NOTE, "Checks that were skipped", "see the message"),
}
"""All kinds, in the order of the report."""

FIXABLE = tuple(name for name, kind in KINDS.items() if kind.fixable)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of a dataset.

    Attributes:
        path: Its path below the folder, as people read it.
        index: Its index in the listing; -1 if it is not listed.
        label: Its class.
        split: Its split; empty if the folder is not split.
        place: Where it is, if it is listed.
        sha256: Its hash, if one is recorded.
    """

    path: str
    index: int = -1
    label: str = ""
    split: str = ""
    place: Path = Path()
    sha256: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return path, class and split, without what is empty."""
        values = {"path": self.path, "class": self.label, "split": self.split}
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class DatasetFinding:
    """One thing that is wrong.

    Args:
        kind: A key of :data:`KINDS`.
        message: What is wrong, naming the file or class.
        files: All files that it is about; of duplicates, the one to keep comes first.
        severity: By default that of the kind.
        surplus: Indices in ``files`` of those that ``--fix`` moves away; None means all.
        details: Numbers for the report.
    """

    kind: str
    message: str
    files: tuple[ImageFile, ...] = ()
    severity: Severity | None = None
    surplus: tuple[int, ...] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> Severity:
        """How bad it is."""
        return self.severity or KINDS[self.kind].severity

    @property
    def moved(self) -> tuple[ImageFile, ...]:
        """Files that ``--fix`` of this kind moves away."""
        return self.files if self.surplus is None else tuple(self.files[place] for place in self.surplus)

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as it is in report.json."""
        return {
            "severity": self.level.value,
            "kind": self.kind,
            "message": self.message,
            "mend": KINDS[self.kind].remedy,
            "files": [file.to_dict() for file in self.files],
            **({"details": self.details} if self.details else {}),
        }


def by_severity(findings: Iterable[DatasetFinding]) -> dict[str, int]:
    """Count the findings of each severity, the worst first."""
    counts = Counter(finding.level for finding in findings)
    return {severity.value: counts[severity] for severity in Severity}


def by_kind(findings: Iterable[DatasetFinding]) -> dict[str, list[DatasetFinding]]:
    """Group the findings by kind, in the order of :data:`KINDS`, the worst of a kind first."""
    groups: dict[str, list[DatasetFinding]] = {kind: [] for kind in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    order = list(Severity)
    return {kind: sorted(found, key=lambda item: order.index(item.level)) for kind, found in groups.items() if found}


def fails(findings: Iterable[DatasetFinding], fail_on: str) -> bool:
    """Return whether any finding is as bad as ``fail_on`` (a severity, or ``never``) or worse."""
    return any(finding.level.reaches(fail_on) for finding in findings)
