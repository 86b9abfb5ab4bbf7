"""Follows a job: reports each change of state of the job and its steps, and each line of their logs, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.jobs.azureml.azure_records import FINAL, JobRecord
from vision_mlops.jobs.azureml.run_history import RunHistory

_WITH_STEPS = ("pipeline", "sweep", "automl")
"""Types of jobs whose logs are those of their child runs."""


@dataclass
class Follower:
    """Remembers what was reported about a job, and reports what is new.

    Attributes:
        look: Returns the job in its present state.
        runs: Steps and logs.
        name: Name of the job.
        say: Called with each line.
        patience: Seconds for which the service may be busy or unavailable.
    """

    look: Callable[[], JobRecord]
    runs: RunHistory
    name: str
    say: Callable[[str], None]
    patience: float
    _told: dict[str, str] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)

    def run(self, shortest: float, longest: float) -> JobRecord:
        """Follow the job until it ends; the pause between two requests, in seconds, grows while nothing happens."""
        pause, first = shortest, True
        while True:
            before = dict(self._told)
            job: JobRecord = self._call(self.look)
            if first and job.studio_url:
                self.say(f"studio: {job.studio_url}")
            lines = self._look(job)
            if job.is_final:
                self._tell("", job.status)
                return job
            pause = shortest if lines or self._told != before else min(1.5 * pause, longest)
            first = False
            time.sleep(pause)

    def _look(self, job: JobRecord) -> int:
        """Report what is new; return the number of log lines."""
        if not job.is_final:
            self._tell("", job.status)
        count = 0
        parts = self._call(lambda: self.runs.steps(self.name)) if job.type in _WITH_STEPS else []
        for step in parts:
            self._tell(step.step, step.status)
            # A step that never started has no log.
            if step.status not in ("NotStarted", "Queued"):
                count += self._log(step.step, step.name, final=step.status in FINAL or job.is_final)
        if not parts:
            count += self._log("", self.name, final=job.is_final)
        return count

    def _log(self, step: str, run: str, *, final: bool) -> int:
        if run in self._read:
            return 0
        lines = self._call(lambda: self.runs.new_lines(run, final=final))
        for line in lines:
            self.say(f"[{step}] {line}" if step else line)
        if final:
            self._read.add(run)
        return len(lines)

    def _tell(self, step: str, state: str) -> None:
        if self._told.get(step) != state:
            self._told[step] = state
            self.say(f"{step or f'job {self.name}'}: {state}")

    def _call(self, call: Callable[[], Any]) -> Any:
        return retry_while_busy(call, self.say, seconds=self.patience)
