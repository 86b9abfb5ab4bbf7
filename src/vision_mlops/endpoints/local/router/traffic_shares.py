"""Which deployment gets the next request: exact in percent over time, and without runs of the same one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Generic, Protocol, TypeVar


class Choosable(Protocol):
    """What can be chosen."""

    @property
    def ready(self) -> bool:
        """Whether it can be chosen now."""
        ...


C = TypeVar("C", bound=Choosable)


class _Entry(Generic[C]):
    __slots__ = ("choice", "credit", "weight")

    def __init__(self, choice: C, weight: int) -> None:
        self.choice = choice
        self.weight = weight
        self.credit = 0


class Shares(Generic[C]):
    """Smooth weighted round robin: each turn, everybody earns its weight, the richest is chosen and pays for all.

    Args:
        weights: Percent by choice; those with none are never chosen.
    """

    def __init__(self, weights: Sequence[tuple[C, int]] = ()) -> None:
        self._entries = [_Entry(choice, weight) for choice, weight in weights if weight > 0]

    def next(self) -> C | None:
        """Return the choice for the next request, among those that are ready; None where none is."""
        best: _Entry[C] | None = None
        total = 0
        for entry in self._entries:
            if entry.choice.ready:
                entry.credit += entry.weight
                total += entry.weight
                if best is None or entry.credit > best.credit:
                    best = entry
        if best is None:
            return None
        best.credit -= total
        return best.choice

    def largest(self, without: Collection[C] = ()) -> C | None:
        """Return the ready choice with the largest share, without taking a turn."""
        able = [entry for entry in self._entries if entry.choice.ready and entry.choice not in without]
        return max(able, key=lambda entry: entry.weight).choice if able else None

    @property
    def ready(self) -> bool:
        """Whether any choice is ready."""
        return any(entry.choice.ready for entry in self._entries)


class MirrorSampler:
    """Picks a given percentage of the requests, evenly.

    Args:
        percent: 0 to 100.
    """

    def __init__(self, percent: int = 0) -> None:
        self.percent = percent
        self._credit = 0

    def next(self) -> bool:
        """Return whether the next request is picked."""
        self._credit += self.percent
        if self._credit < 100:
            return False
        self._credit -= 100
        return True


def as_percent(shares: Mapping[str, int]) -> dict[str, int]:
    """Return the shares that are not zero."""
    return {name: share for name, share in shares.items() if share}
