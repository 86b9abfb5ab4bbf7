"""One step of a job from ready to done: find its inputs, reuse what is known, else run it and keep what it wrote."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from vision_mlops.exceptions import MlopsError, PipelineError
from vision_mlops.pipeline.nodes import Node, Searched, StepOutput, Value
from vision_mlops.runner.attempts import Attempt, CommandActivity, prepare_attempt
from vision_mlops.runner.context import Context
from vision_mlops.runner.keys import STATE_TAG, key_now, step_key
from vision_mlops.runner.process import LogTail
from vision_mlops.runner.publishing import publish
from vision_mlops.runner.results import Result, Workplace, cache_folder, missing_outputs, read_result, write_result
from vision_mlops.runner.state import Status, StepState, now

_LAST_LINES = 20


class Activity(Protocol):
    """What a step does while it runs: a process, or a sweep of them."""

    def start(self) -> None:
        """Begin."""

    def poll(self, free: int) -> int | None:
        """Exit code once it has ended; until then it may start ``free`` more processes."""

    def end(self) -> None:
        """Ask it to end; :meth:`poll` says when it has."""

    @property
    def slots(self) -> int:
        """How many processes it has at the moment."""

    @property
    def message(self) -> str:
        """Why it failed, where its exit code does not say it."""


class StepRun:
    """One step of a running job."""

    def __init__(self, context: Context, node: Node) -> None:
        self.node = node
        self._context = context
        self._state: StepState = context.state.steps[node.step]
        self._folder = context.folder.step(node.step)
        self._tails: list[LogTail] = []
        self._activity: Activity | None = None
        self._workplace: Workplace | None = None
        self._outputs: dict[str, Path] = {}
        self._key = ""
        self._inputs: dict[str, str] = {}
        self._began = 0.0
        self._canceled = False

    @property
    def slots(self) -> int:
        """How many processes it may have at the moment."""
        return self._activity.slots if self._activity is not None else 0

    def start(self) -> None:
        """Reuse an earlier result, or start the process. Problems of the step itself end it as failed."""
        self._state.started, self._state.folder = now(), str(self._folder)
        try:
            self._inputs = self._find_inputs()
            self._key = step_key(self._context, self.node, self._inputs)
            self._state.key = self._key
            if not self._reuse():
                self._launch()
        except MlopsError as error:
            if self._workplace is not None:
                self._workplace.abandon()
            self._end(Status.FAILED, str(error.message) + (f" -> {error.hint}" if error.hint else ""))

    def _find_inputs(self) -> dict[str, str]:
        """Text of each input as its command gets it."""
        found: dict[str, str] = {}
        for name, source in self.node.inputs.items():
            if isinstance(source, Searched):
                continue
            if isinstance(source, Value):
                found[name] = source.text
            elif isinstance(source, StepOutput):
                found[name] = self._context.state.steps[source.step].outputs[source.output]
            elif source.mode == "direct" and "://" in source.path:
                found[name] = source.path
            else:
                found[name] = str(self._context.sources.find(source, f"step {self.node.step!r}: input {name!r}"))
        return found

    def _reuse(self) -> bool:
        context, node = self._context, self.node
        key = key_now(self._context, self.node, self._inputs, self._key)
        found: Result | None = None
        if node.deterministic or STATE_TAG in node.tags:
            if not context.force:
                found = read_result(cache_folder(key), key, node.outputs, context.fingerprints)
        elif context.resumed:
            found = read_result(self._folder / "result", key, node.outputs, context.fingerprints)
        if found is None:
            return False
        same_job = found.job == context.state.name and context.resumed
        self._state.run_id, self._state.seconds = found.run_id, found.seconds if same_job else 0.0
        self._done(found, Status.COMPLETED if same_job else Status.REUSED)
        return True

    def _launch(self) -> None:
        node, context = self.node, self._context
        self._workplace = self._claim()
        self._outputs = self._workplace.prepare(node.outputs)
        self._state.run_id = context.runs.step(node.step, {"mlops.component": node.component})
        attempt = prepare_attempt(
            Attempt(
                node=node,
                job=context.state.name,
                commit=context.commit,
                folder=self._folder,
                work=self._folder / "work",
                inputs=self._inputs,
                outputs=self._outputs,
                run_id=self._state.run_id,
                own=self._workplace.own,
            )
        )
        self._tails = [LogTail(self._folder / name) for name in ("stdout.log", "stderr.log")]
        if node.sweep is not None:
            from vision_mlops.runner.sweeping import SweepActivity

            self._activity = SweepActivity(attempt, node.sweep, context, self._state)
        else:
            self._activity = CommandActivity(attempt)
        self._state.status = Status.RUNNING
        self._began = time.monotonic()
        context.save()
        context.display.changed(context.state, node.step)
        self._activity.start()

    def _claim(self) -> Workplace:
        """Folder that the step writes into: that of its key, or one of its own where it is not reused, or is in use."""
        shared = self.node.deterministic and STATE_TAG not in self.node.tags
        if shared:
            workplace = Workplace(cache_folder(self._key))
            if workplace.claim():
                return workplace
        workplace = Workplace(self._folder / "result")
        if not workplace.claim():
            raise PipelineError(f"{workplace.folder} is in use", "end the other process")
        return workplace

    def poll(self, free: int) -> bool:
        """Look after the process; True once the step is over. ``free`` is how many more processes may be started."""
        if self._state.status.over:
            return True
        assert self._activity is not None
        code = self._activity.poll(free)
        for tail in self._tails:
            for line in tail.lines(last=code is not None):
                self._context.display.line(self.node.step, line)
        if code is None:
            return False
        self._state.seconds = time.monotonic() - self._began
        self._state.exit_code = code
        self._conclude(code)
        return True

    def _conclude(self, code: int) -> None:
        assert self._workplace is not None
        missing = missing_outputs(self._outputs)
        if self._canceled or code or missing:
            self._workplace.abandon()
            status = Status.CANCELED if self._canceled else Status.FAILED
            self._end(status, "" if self._canceled else self._reason(code, missing))
            return
        try:
            hashes = {name: self._context.fingerprints.of(path) for name, path in self._outputs.items()}
            result = Result(
                self._outputs, hashes, self._state.run_id, round(self._state.seconds, 3), self._context.state.name
            )
            key = key_now(self._context, self.node, self._inputs, self._key)
            write_result(self._workplace.folder, key, result)
            if cache_folder(key) != self._workplace.folder and STATE_TAG in self.node.tags:
                write_result(cache_folder(key), key, result)
        except (OSError, MlopsError) as error:
            self._workplace.abandon()
            self._end(Status.FAILED, f"its outputs cannot be kept: {error}")
            return
        self._workplace.finish()
        self._done(result, Status.COMPLETED)

    def _reason(self, code: int, missing: list[str]) -> str:
        if self._activity is not None and self._activity.message:
            return self._activity.message
        if code == 127:
            return "exit code 127: a command of it does not exist"
        if code:
            return f"exit code {code}"
        return f"ended well, but did not write its output {missing[0]!r}"

    def _done(self, result: Result, status: Status) -> None:
        """Publish the outputs of a step that ended well."""
        self._state.outputs = {name: str(path) for name, path in result.outputs.items()}
        for name, digest in result.hashes.items():
            self._context.hashes[f"{self.node.step}:{name}"] = digest
        try:
            publish(self._context.plan, self._context.folder, self.node, result)
        except MlopsError as error:
            self._end(Status.FAILED, str(error))
            return
        self._end(status)

    def cancel(self) -> None:
        """Ask it to end; :meth:`poll` sees it through."""
        self._canceled = True
        if self._activity is not None:
            self._activity.end()

    def _end(self, status: Status, message: str = "") -> None:
        context, state = self._context, self._state
        state.status, state.message, state.ended = status, message, now()
        if state.run_id and status is not Status.REUSED and self._activity is not None:
            context.runs.end(state.run_id, failed=not status.succeeded)
        context.save()
        context.display.changed(context.state, self.node.step)

    def last_lines(self) -> list[str]:
        """The end of what a failed step wrote: its standard error, or its standard output where that is empty."""
        for name in ("stderr.log", "stdout.log"):
            try:
                text = (self._folder / name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if text.strip():
                return text.rstrip().splitlines()[-_LAST_LINES:]
        return []
