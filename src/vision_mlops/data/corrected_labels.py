"""Labels that people gave to images of a model in use: what they agree on, and what cannot be used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vision_mlops.core.text import few

NotAddedReason = Literal[
    "none-of-these", "conflict", "in-test", "in-val", "already-there", "other-label", "near-copy", "unusable"
]


@dataclass(frozen=True, slots=True)
class CorrectedLabel:
    """What one person said of one image at one time.

    Attributes:
        sha256: Hash of the image's bytes.
        suffix: Suffix of the image's type, with its dot.
        label: The right class; None for "none of these".
        who: Identifies the person.
        at: When it was said, with a time zone.
        image: Reads the bytes. Raises DataError if they are missing or were changed.
    """

    sha256: str
    suffix: str
    label: str | None
    who: str
    at: datetime
    image: Callable[[], bytes]

    @property
    def name(self) -> str:
        """What messages call the image, and its file when it is added."""
        return f"correction-{self.sha256[:16]}{self.suffix}"


@dataclass(frozen=True, slots=True)
class NotAdded:
    """An image whose label is not taken over, and why."""

    sha256: str
    label: str | None
    reason: NotAddedReason
    message: str


def not_added(label: CorrectedLabel, reason: NotAddedReason, why: str) -> NotAdded:
    """Return an image that is left out, with the reason."""
    return NotAdded(label.sha256, label.label, reason, f"{label.name}: {why}")


def settle(labels: Iterable[CorrectedLabel]) -> tuple[list[CorrectedLabel], list[NotAdded]]:
    """Choose one label for each image: the latest of one person, or what several people last agree on.

    Returns:
        The labels, the earliest first; and the images without one, because people contradict each other, or say that none
        of the classes is right.
    """
    said: dict[str, dict[str, CorrectedLabel]] = defaultdict(dict)
    for label in sorted(labels, key=lambda item: item.at):
        said[label.sha256][label.who] = label
    settled: list[CorrectedLabel] = []
    left: list[NotAdded] = []
    for people in said.values():
        first, *others = people.values()
        if any(other.label != first.label for other in others):
            words = [f"{who} says {_shown(item.label)}" for who, item in people.items()]
            left.append(not_added(first, "conflict", f"people disagree: {few(words)}"))
        elif first.label is None:
            left.append(not_added(first, "none-of-these", "it is none of the classes"))
        else:
            settled.append(first)
    return sorted(settled, key=lambda item: (item.at, item.sha256)), left


def _shown(label: str | None) -> str:
    return "none of these" if label is None else repr(label)
