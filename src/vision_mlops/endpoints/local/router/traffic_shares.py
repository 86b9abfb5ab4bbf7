"""Chooses the deployment for the next request: exact in percent over time, and without runs of the same one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vision_mlops.endpoints.local.router.backend import Backend


class _Entry:
    __slots__ = ("choice", "credit", "weight")

    def __init__(self, choice: Backend, weight: int) -> None:
        self.choice = choice
        self.weight = weight
        self.credit = 0


class Shares:
    """Smooth weighted round robin: each turn, all get their weight as credit; the one with most is chosen, and pays for all.

    Args:
        weights: Percent by deployment; those with none are never chosen.
    """

    def __init__(self, weights: Sequence[tuple[Backend, int]] = ()) -> None:
        self._entries = [_Entry(choice, weight) for choice, weight in weights if weight > 0]

    def next(self) -> Backend | None:
        """Return the deployment for the next request, among those that are ready; None if none is."""
        best: _Entry | None = None
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

    def largest(self, without: Collection[Backend] = ()) -> Backend | None:
        """Return the ready deployment with the largest share, without taking a turn."""
        able = [entry for entry in self._entries if entry.choice.ready and entry.choice not in without]
        return max(able, key=lambda entry: entry.weight).choice if able else None

    @property
    def ready(self) -> bool:
        """Whether any deployment is ready."""
        return any(entry.choice.ready for entry in self._entries)


def as_percent(shares: Mapping[str, int]) -> dict[str, int]:
    """Return the shares that are not zero."""
    return {name: share for name, share in shares.items() if share}
