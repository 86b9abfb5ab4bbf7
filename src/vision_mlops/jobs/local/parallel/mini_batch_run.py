"""Hands mini-batches to worker processes, retries those that fail, and counts what is missing."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.text import counted
from vision_mlops.jobs.local.parallel.entry_script import EntryScript, MiniBatchResult
from vision_mlops.jobs.local.parallel.mini_batch_spec import MiniBatchSpec
from vision_mlops.jobs.local.parallel.partitions import MiniBatch
from vision_mlops.jobs.local.parallel.worker_pool import StartError, WorkerPool

Report = Callable[[int, str], None]  # level of the module logging, and a line


class StepFailedError(Exception):
    """Raised if the entry script, or too much of the input, failed."""


class BatchRun:
    """One pass over all mini-batches.

    Args:
        script: The entry script.
        batches: All mini-batches.
        spec: How failures are handled.
        found: Settings for failures among the arguments of the script, which take precedence.
        report: Told what happens.

    Attributes:
        items: Number of items in all mini-batches.
        results: Results of the mini-batches that succeeded, by their number.
        failed_batches: Number of mini-batches that failed, or lack items.
        failed_items: Number of missing items.
    """

    def __init__(
        self, script: EntryScript, batches: list[MiniBatch], spec: MiniBatchSpec, found: argparse.Namespace,
        report: Report,
    ) -> None:  # fmt: skip
        self._script, self._batches, self._spec, self._found, self._report = script, batches, spec, found, report
        self._tries = [0] * len(batches)
        self.items = sum(batch.items for batch in batches)
        self.results: dict[int, MiniBatchResult] = {}
        self.failed_batches = self.failed_items = 0

    def complete(self) -> None:
        """Run all mini-batches. No worker is left, however this ends.

        Raises:
            PipelineError: the script is not an entry script.
            StepFailedError: it cannot be imported, ``init`` failed, or a threshold was exceeded.
        """
        spec = self._spec
        with WorkerPool[MiniBatch](self._script, spec.max_concurrency, limit=spec.timeout, given=self._give) as pool:
            try:
                for end in pool.results(self._batches):
                    if isinstance(end.answer, MiniBatchResult):
                        self._book(end.task, end.answer, end.seconds)
                    elif self._may_retry(end.task, end.answer.message if end.answer else end.problem):
                        pool.again(end.task)
            except StartError as error:  # a script that fails to start in one process is not tried in another
                if error.refusal is None:
                    raise StepFailedError(f"{self._script.path} failed in init(): {error.reason}") from error
                if error.refusal.unusable:
                    hint = "an entry script defines init() and run(mini_batch)"
                    raise PipelineError(error.refusal.message, hint) from error
                raise StepFailedError(error.refusal.message) from error
            for closed in pool.close():  # the results are valid, however this ends
                problem = closed.answer.message if closed.answer else closed.problem
                if problem:
                    self._report(logging.WARNING, f"shutdown() failed: {problem}")

    def _give(self, batch: MiniBatch, pid: int) -> None:
        self._tries[batch.number] += 1
        self._report(logging.DEBUG, f"{self._name(batch)}: given to process {pid}")

    def _book(self, batch: MiniBatch, result: MiniBatchResult, seconds: float) -> None:
        self.results[batch.number] = result
        missing = max(0, batch.items - result.count)
        line = f"{self._name(batch)}: {batch.items - missing} of {counted(batch.items, 'item')} in {seconds:.2f} s"
        self._report(logging.WARNING if missing else logging.INFO, line)
        if missing:
            self._miss(missing)

    def _may_retry(self, batch: MiniBatch, reason: str) -> bool:
        """Return whether to retry a mini-batch; otherwise count it as failed."""
        tries, allowed = self._tries[batch.number], self._spec.max_retries + 1
        self._report(logging.WARNING, f"{self._name(batch)}: attempt {tries} of {allowed} failed: {reason}")
        if tries < allowed:
            return True
        self._miss(batch.items)
        return False

    def _miss(self, items: int) -> None:
        """Count a failed mini-batch. Raises StepFailedError if that exceeds a threshold."""
        most_items, most = self._found.error_threshold, self._spec.mini_batch_error_threshold
        self.failed_batches += 1
        self.failed_items += items
        percent = 100 * self.failed_batches / len(self._batches)
        if -1 < most_items < self.failed_items:
            reason = f"{counted(self.failed_items, 'item')} failed, and error_threshold is {most_items}"
        elif -1 < most < self.failed_batches:
            reason = f"{counted(self.failed_batches, 'mini-batch')} failed, and mini_batch_error_threshold is {most}"
        elif percent > self._found.allowed_failed_percent:
            reason = f"{percent:.0f}% of the mini-batches failed, and allowed_failed_percent is "
            reason += f"{self._found.allowed_failed_percent:g}"
        else:
            return
        raise StepFailedError(f"{reason}; the reasons are in the lines above")

    def _name(self, batch: MiniBatch) -> str:
        return f"mini-batch {batch.number + 1} of {len(self._batches)}"
