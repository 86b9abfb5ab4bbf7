"""A swap of the model over all workers: either every worker has loaded the new model, or none uses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from vision_mlops.serving.served_model import ModelSource


class ReloadStep(Enum):
    """The progress of a swap."""

    PREPARING = "preparing"
    COMMITTING = "committing"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Reload:
    """One swap under way. It knows nothing of processes: the supervisor passes on what they say, and acts on the step.

    Args:
        source: The new model.
        generation: Number of the new model.
        waiting: Workers that have not responded yet.
        asked_by: Worker that asked and the number of its request, or None.
        problem: Why it has failed; ``code`` is the one of the response.
    """

    source: ModelSource
    generation: int
    waiting: set[int]
    asked_by: tuple[int, int] | None = None
    step: ReloadStep = ReloadStep.PREPARING
    problem: str = ""
    code: str = "bundle_refused"
    model: dict[str, Any] = field(default_factory=dict)
    _members: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._members = set(self.waiting)

    @property
    def members(self) -> Iterable[int]:
        """Workers that take part and are alive."""
        return sorted(self._members)

    def prepared(self, pid: int, generation: int, problem: str, code: str, model: dict[str, Any]) -> None:
        """Note that a worker has loaded the model, or cannot."""
        if self.step is not ReloadStep.PREPARING or generation != self.generation:
            return
        self.waiting.discard(pid)
        if problem:
            self.step, self.problem, self.code = ReloadStep.FAILED, problem, code
            return
        self.model = model
        self._advance()

    def committed(self, pid: int, generation: int) -> None:
        """Note that a worker uses the new model."""
        if self.step is ReloadStep.COMMITTING and generation == self.generation:
            self.waiting.discard(pid)
            self._advance()

    def lost(self, pid: int) -> None:
        """Note that a worker has died: the one in its place starts with whatever model is the current one by then."""
        self.waiting.discard(pid)
        self._members.discard(pid)
        if self.step is ReloadStep.PREPARING and not self._members:
            self.step, self.problem = ReloadStep.FAILED, "the workers ended while they were loading the model"
        self._advance()

    def _advance(self) -> None:
        if self.waiting:
            return
        if self.step is ReloadStep.PREPARING:
            self.step, self.waiting = ReloadStep.COMMITTING, set(self._members)
        if self.step is ReloadStep.COMMITTING and not self.waiting:
            self.step = ReloadStep.DONE
