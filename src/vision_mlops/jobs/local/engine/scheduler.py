"""Runs the steps of a job in one thread: each starts as soon as its inputs exist and a process slot is free."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.interruption import Interruption
from vision_mlops.jobs.definitions.plan.nodes import Node, StepOutput
from vision_mlops.jobs.local.engine.step_execution import StepRun
from vision_mlops.jobs.local.state.job_context import Context
from vision_mlops.jobs.local.state.job_state import Status, now

_PAUSE_SECONDS = 0.03
_LONGEST_END_SECONDS = 40.0


class Scheduler:
    """Runs one job.

    Args:
        context: What its steps share.
        places: Number of processes that may run at once.
    """

    def __init__(self, context: Context, places: int) -> None:
        self._context = context
        self._places = places
        self._steps = {node.step: StepRun(context, node) for node in context.plan.nodes}
        self._running: list[StepRun] = []
        settings = context.plan.settings
        going_on = settings.get("continue_on_step_failure", settings.get("continue_run_on_step_failure"))
        self._continue = True if going_on is None else bool(going_on)
        self._without_optional = settings.get("continue_run_on_failed_optional_input", True)
        self._stopping = False
        self.canceled = False

    def run(self) -> Status:
        """Run until nothing is left to do; return how the job ended. Ctrl-C ends the running steps, and is then raised."""
        with Interruption() as interruption:
            try:
                while not self._finished(interruption.asked):
                    if interruption.asked and not self._stopping:
                        self._stop()
                    self._advance()
            except BaseException as error:
                self._abort(at_once=isinstance(error, KeyboardInterrupt))
                raise
        if interruption.asked:
            raise KeyboardInterrupt
        states = [step.status for step in self._context.state.steps.values()]
        if self.canceled:
            return Status.CANCELED
        return Status.COMPLETED if all(status.succeeded for status in states) else Status.FAILED

    @property
    def failed(self) -> list[StepRun]:
        """Steps that failed, in the order of the job."""
        states = self._context.state.steps
        return [run for name, run in self._steps.items() if states[name].status is Status.FAILED]

    def _advance(self) -> None:
        context = self._context
        if not self.canceled and context.folder.cancel_file.exists():
            self.canceled = True
            self._stop()
        started = False
        for name, run in self._steps.items():
            if self._stopping:  # perhaps because a step failed at its start
                break
            if context.state.steps[name].status is Status.WAITING and self._free > 0 and self._ready(run):
                self._running.append(run)  # before it starts, so that it is ended whatever happens
                run.start()
                started = True
                if context.state.steps[name].status.over:
                    self._leave(run)
        for run in list(self._running):
            if run.poll(max(self._free, 0)):
                self._leave(run)
                started = True
        context.display.tick(context.state)
        if not started:
            time.sleep(_PAUSE_SECONDS)

    def _leave(self, run: StepRun) -> None:
        """Note that a step has ended."""
        self._running.remove(run)
        if self._context.state.steps[run.node.step].status is Status.FAILED and not self._continue:
            self._stop()

    @property
    def _free(self) -> int:
        return self._places - sum(run.slots for run in self._running)

    def _ready(self, run: StepRun) -> bool:
        """Return whether all inputs of a step exist. A step that can never run is skipped."""
        states, node = self._context.state.steps, run.node
        for needed in node.needs:
            status = states[needed].status
            if status.succeeded:
                continue
            if not status.over:
                return False
            if self._without_optional and self._only_optional(node, needed):
                continue
            self._skip(node.step, f"{needed} {status.value.lower()}")
            return False
        run.node = self._without_lost_inputs(node)
        return True

    def _only_optional(self, node: Node, needed: str) -> bool:
        names = [name for name, item in node.inputs.items() if isinstance(item, StepOutput) and item.step == needed]
        return all(name in node.declared and node.declared[name].optional for name in names)

    def _without_lost_inputs(self, node: Node) -> Node:
        states = self._context.state.steps
        lost = [
            name
            for name, item in node.inputs.items()
            if isinstance(item, StepOutput) and not states[item.step].status.succeeded
        ]
        return replace(node, inputs={name: item for name, item in node.inputs.items() if name not in lost})

    def _skip(self, name: str, why: str) -> None:
        state = self._context.state.steps[name]
        state.status, state.message, state.ended = Status.SKIPPED, why, now()
        self._context.save()
        self._context.display.changed(self._context.state, name)

    def _finished(self, interrupted: bool) -> bool:
        if self._running:
            return False
        if interrupted:
            return True
        waiting = [name for name, state in self._context.state.steps.items() if state.status is Status.WAITING]
        if self._stopping:
            for name in waiting:
                self._skip(name, "the job was canceled" if self.canceled else "an earlier step failed")
            return True
        return not waiting

    def _stop(self) -> None:
        """Start no more steps, and end those that are running."""
        self._stopping = True
        for run in self._running:
            run.cancel()

    def _abort(self, *, at_once: bool) -> None:
        """End the running steps when the job cannot continue, for example with a full disk; no process is left."""
        try:
            self._stop()
            deadline = time.monotonic() + (0 if at_once else _LONGEST_END_SECONDS)
            while self._running and time.monotonic() < deadline:
                self._running = [run for run in self._running if not run.poll(0)]
                time.sleep(_PAUSE_SECONDS)
        finally:
            for run in self._running:
                run.kill()
                with contextlib.suppress(OSError, MlopsError):  # the reason for the end is already raised
                    run.poll(0)
