"""Hands mini-batches to worker processes, tries those again that fail, and counts what is missing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.text import counted
from vision_mlops.jobs.local.parallel.entry_script_process import Answer, MiniBatchResult, Problem, Ready, Script
from vision_mlops.jobs.local.parallel.mini_batch_workers import MiniBatchWorker, ready_workers
from vision_mlops.jobs.local.parallel.partitions import MiniBatch

_LIVENESS_SECONDS = 1.0

Report = Callable[[int, str], None]  # level of the module logging, and a line


class StepFailedError(Exception):
    """The entry script, or too much of the input, failed."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How failures are handled; thresholds of -1 allow any number."""

    processes: int
    max_retries: int = 2
    timeout: float = 60.0
    item_threshold: int = -1
    batch_threshold: int = -1
    percent_threshold: float = 100.0


@dataclass(slots=True)
class MiniBatchOutcome:
    """What became of the mini-batches: results by their number, and what is missing."""

    batches: int
    items: int
    results: dict[int, MiniBatchResult] = field(default_factory=dict)
    failed_batches: int = 0
    failed_items: int = 0


class BatchRun:
    """One pass over all mini-batches."""

    def __init__(self, script: Script, batches: list[MiniBatch], rules: Rules, report: Report) -> None:
        self._script = script
        self._rules = rules
        self._report = report
        self._waiting = deque(batches)
        self._open = len(batches)
        self._tries = [0] * len(batches)
        self._workers: list[MiniBatchWorker] = []
        self._outcome = MiniBatchOutcome(len(batches), sum(batch.items for batch in batches))

    def complete(self) -> MiniBatchOutcome:
        """Run everything. No worker is left, however this ends.

        Raises:
            PipelineError: the script is no entry script.
            StepFailedError: it cannot be imported, ``init`` failed, or a threshold was exceeded.
        """
        try:
            while self._open:
                self._employ()
                for worker in ready_workers(self._workers, self._patience()):
                    self._hear(worker)
                self._stop_overdue()
            self._shut_down()
        finally:
            MiniBatchWorker.end(self._workers)
        return self._outcome

    def _employ(self) -> None:
        """Start as many workers as there is work for, and give it to those that are idle."""
        while len(self._workers) < min(self._rules.processes, self._open):
            self._workers.append(MiniBatchWorker(self._script))
        for worker in self._workers:
            if worker.idle and self._waiting:
                batch = self._waiting.popleft()
                self._tries[batch.number] += 1
                self._report(logging.DEBUG, f"{self._name(batch)}: given to process {worker.pid}")
                worker.send(batch)

    def _patience(self) -> float:
        """Seconds until the next mini-batch is overdue, and not so long that a death goes unseen."""
        left = [self._rules.timeout - worker.seconds for worker in self._workers if worker.batch]
        return max(0.0, min([*left, _LIVENESS_SECONDS]))

    def _hear(self, worker: MiniBatchWorker) -> None:
        batch, seconds, started = worker.batch, worker.seconds, worker.ready
        answer = worker.receive()
        if answer is None:
            self._dismiss(worker)
        if not started:
            self._check_start(worker, answer)
        elif batch is not None and isinstance(answer, MiniBatchResult):
            worker.batch = None
            self._book(batch, answer, seconds)
        elif batch is not None:
            worker.batch = None
            self._retry(batch, answer.message if isinstance(answer, Problem) else worker.exit_text)

    def _check_start(self, worker: MiniBatchWorker, answer: Answer | None) -> None:
        """A script that does not start in one process is not tried in another."""
        if isinstance(answer, Problem):
            if answer.unusable:
                raise PipelineError(answer.message, "an entry script defines init() and run(mini_batch)")
            what = "cannot be imported" if answer.stage == "import" else "failed in init()"
            raise StepFailedError(f"{self._script.path} {what}: {answer.message}")
        if answer is None:
            raise StepFailedError(f"{self._script.path} failed in init(): {worker.exit_text}")

    def _stop_overdue(self) -> None:
        for worker in [worker for worker in self._workers if worker.batch and worker.seconds > self._rules.timeout]:
            batch = worker.batch
            self._dismiss(worker)
            if batch is not None:
                self._retry(batch, f"it took longer than {self._rules.timeout:g} seconds")

    def _dismiss(self, worker: MiniBatchWorker) -> None:
        worker.kill()
        self._workers.remove(worker)

    def _book(self, batch: MiniBatch, result: MiniBatchResult, seconds: float) -> None:
        self._open -= 1
        self._outcome.results[batch.number] = result
        missing = max(0, batch.items - result.count)
        line = f"{self._name(batch)}: {batch.items - missing} of {counted(batch.items, 'item')} in {seconds:.2f} s"
        self._report(logging.WARNING if missing else logging.INFO, line)
        if missing:
            self._miss(missing)

    def _retry(self, batch: MiniBatch, reason: str) -> None:
        tries, allowed = self._tries[batch.number], self._rules.max_retries + 1
        self._report(logging.WARNING, f"{self._name(batch)}: attempt {tries} of {allowed} failed: {reason}")
        if tries < allowed:
            self._waiting.appendleft(batch)
            return
        self._open -= 1
        self._miss(batch.items)

    def _miss(self, items: int) -> None:
        """Count a failed mini-batch. Raises StepFailedError where that is one too many."""
        outcome, rules = self._outcome, self._rules
        outcome.failed_batches += 1
        outcome.failed_items += items
        percent = 100 * outcome.failed_batches / outcome.batches
        if -1 < rules.item_threshold < outcome.failed_items:
            reason = f"{counted(outcome.failed_items, 'item')} failed, and error_threshold is {rules.item_threshold}"
        elif -1 < rules.batch_threshold < outcome.failed_batches:
            reason = f"{counted(outcome.failed_batches, 'mini-batch')} failed, and mini_batch_error_threshold is "
            reason += str(rules.batch_threshold)
        elif percent > rules.percent_threshold:
            reason = f"{percent:.0f} % of the mini-batches failed, and allowed_failed_percent is "
            reason += f"{rules.percent_threshold:g}"
        else:
            return
        raise StepFailedError(f"{reason}; the reasons are in the lines above")

    def _shut_down(self) -> None:
        """Let every worker call ``shutdown()``. What fails there is said, but the results stand."""
        closing = [worker for worker in self._workers if worker.ready]
        for worker in closing:
            worker.send(None)
        while closing:
            for worker in ready_workers(closing, _LIVENESS_SECONDS):
                closing.remove(worker)
                answer = worker.receive()
                if not isinstance(answer, Ready):
                    reason = answer.message if isinstance(answer, Problem) else worker.exit_text
                    self._report(logging.WARNING, f"shutdown() failed: {reason}")
                worker.wait()
            for worker in [worker for worker in closing if worker.seconds > self._rules.timeout]:
                closing.remove(worker)
                self._report(logging.WARNING, f"shutdown() took longer than {self._rules.timeout:g} seconds")

    def _name(self, batch: MiniBatch) -> str:
        return f"mini-batch {batch.number + 1} of {self._outcome.batches}"
