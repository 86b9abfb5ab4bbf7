"""Executes one step of a job: finds its inputs, reuses an earlier result, or else runs it and keeps what it wrote."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.core.errors import JobError, MlopsError, PipelineError
from vision_mlops.jobs.definitions import tags
from vision_mlops.jobs.definitions.expressions import ExpressionError
from vision_mlops.jobs.definitions.plan.nodes import Node, SearchedValue, StepOutput, Value
from vision_mlops.jobs.definitions.step_graph import ARTIFACTS
from vision_mlops.jobs.local.engine.output_publishing import publish
from vision_mlops.jobs.local.environments.virtual_environment import FAILURE
from vision_mlops.jobs.local.state.job_context import Context
from vision_mlops.jobs.local.state.job_state import Status, StepState, now
from vision_mlops.jobs.local.steps.cache_keys import key_now, step_key
from vision_mlops.jobs.local.steps.default_artifacts import keep_artifacts, takes_artifacts
from vision_mlops.jobs.local.steps.step_attempt import Attempt, prepare_attempt
from vision_mlops.jobs.local.steps.step_process import LogTail, StepProcess, end_orphans, log_name
from vision_mlops.jobs.local.steps.step_results import (
    StepFolder,
    StepResult,
    cache_folder,
    forget_owner,
    point_to,
    read_result,
    write_owner,
    write_result,
)

if TYPE_CHECKING:
    from vision_mlops.jobs.local.sweep.sweep_step import SweepActivity

_LAST_LINES = 20
_MOST_BYTES = 1 << 16


class StepRun:
    """One step of a running job."""

    def __init__(self, context: Context, node: Node) -> None:
        self.node = node
        self._context = context
        self._state: StepState = context.state.steps[node.step]
        self._folder = context.folder.step(node.step)
        self._tails: list[LogTail] = []
        self._groups: list[dict[str, Any]] = []
        self._log_sizes: dict[str, int] = {}
        self._attempt: Attempt | None = None
        self._preparing = False
        self._activity: StepProcess | SweepActivity | None = None
        self._workplace: StepFolder | None = None
        self._outputs: dict[str, Path] = {}
        self._key = ""
        self._inputs: dict[str, str] = {}
        self._began = 0.0
        self._canceled = False

    @property
    def slots(self) -> int:
        """The number of processes that it may have at the moment."""
        return self._activity.slots if self._activity is not None else 0

    def start(self) -> None:
        """Reuse an earlier result, or start the process. If the step itself has a problem, it ends as failed."""
        self._state.started, self._state.folder = now(), str(self._folder)
        try:
            self._inputs = self._find_inputs()
            self._key = step_key(self._context, self.node, self._inputs)
            self._state.key = self._key
            if not self._reuse():
                self._workplace = self._claim()
                if self._reuse():  # another job has completed it in the meantime
                    self._workplace.release()
                else:
                    self._workplace.clear()
                    self._launch()
        except (MlopsError, ExpressionError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """End the step as failed, for a reason other than its command."""
        self.kill()
        if self._workplace is not None:
            self._workplace.abandon()
        self._end(Status.FAILED, _in_one_line(error))

    def _find_inputs(self) -> dict[str, str]:
        """Return the text of each input as its command gets it."""
        found: dict[str, str] = {}
        for name, source in self.node.inputs.items():
            if isinstance(source, SearchedValue):
                continue
            if isinstance(source, Value):
                found[name] = source.text
            elif isinstance(source, StepOutput):
                found[name] = self._context.state.steps[source.step].outputs[source.output]
            elif source.unread:
                found[name] = source.path
            else:
                found[name] = str(self._context.sources.find(source, f"step {self.node.step!r}: input {name!r}"))
        return found

    def _reuse(self) -> bool:
        context, node = self._context, self.node
        key = key_now(context, node, self._inputs, self._key)
        places = [cache_folder(key)] if node.deterministic or tags.STATE in node.tags else []
        places += [self._folder / "result"] if context.resumed else []
        results = (read_result(place, key, node.outputs, context.fingerprints) for place in places)
        own = context.state.name
        usable = (item for item in results if item and (not context.force or (context.resumed and item.job == own)))
        found = next(usable, None)
        if found is None:
            return False
        same_job = found.job == own and context.resumed
        self._state.run_id, self._state.seconds = found.run_id, found.seconds if same_job else 0.0
        self._done(found, Status.COMPLETED if same_job else Status.REUSED)
        return True

    def _launch(self) -> None:
        node, context = self.node, self._context
        assert self._workplace is not None
        place = context.environments.of(node)
        self._state.environment = place.label
        self._outputs = self._workplace.prepare(node.outputs)
        self._state.run_id = context.runs.step(node.step, {"mlops.component": node.component})
        attempt = prepare_attempt(
            Attempt(
                context=context,
                node=node,
                folder=self._folder,
                work=self._folder / "work",
                results=self._workplace.outputs,
                inputs=self._inputs,
                outputs=self._outputs,
                run_id=self._state.run_id,
                place=place,
            )
        )
        self._log_sizes = {path.name: path.stat().st_size for path in self._folder.glob("std*.log")}
        self._tails = [LogTail(self._folder / name) for name in ("stdout.log", "stderr.log")]
        self._say_environment(place.label)
        order = place.preparation(self._folder)
        (self._folder / FAILURE).unlink(missing_ok=True)
        self._attempt, self._preparing = attempt, order is not None
        self._activity = self._open(attempt) if order is None else attempt.preparation(order)
        self._state.status = Status.RUNNING
        self._began = time.monotonic()
        context.save()
        context.display.changed(context.state, node.step)
        self._begin(self._activity)

    def _begin(self, activity: StepProcess | SweepActivity) -> None:
        activity.start()
        self._own(activity.groups)

    def _open(self, attempt: Attempt) -> StepProcess | SweepActivity:
        """Create the process or sweep of the step itself."""
        if self.node.sweep is None:
            return attempt.process()
        from vision_mlops.jobs.local.sweep.sweep_step import SweepActivity

        return SweepActivity(attempt, self.node.sweep, self._state)

    def _go_on(self, attempt: Attempt) -> None:
        """Begin the step itself, once its environment is ready: its limits do not count the time before."""
        if attempt.place.preparation(self._folder) is not None:
            # Whatever the reason is: the step must not run in another environment.
            message = f"its environment {attempt.place.label} was prepared, but does not exist"
            raise JobError(message, "run the job again")
        self._preparing, self._activity = False, self._open(attempt)
        self._begin(self._activity)

    def _say_environment(self, label: str) -> None:
        """Begin the log with the environment of the step, unless that is this Python."""
        if label:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "stdout.log").open("a", encoding="utf-8") as log:
                log.write(f"environment: {label}\n")

    def _own(self, groups: list[dict[str, Any]]) -> None:
        """Record the processes of the step, for this job and for others that want to write to the same folder."""
        assert self._workplace is not None
        self._groups = groups
        write_owner(self._workplace.folder, groups)
        write_owner(self._folder, groups)

    @property
    def _shared(self) -> bool:
        """Whether other jobs reuse its results, whatever the state outside of them."""
        return self.node.deterministic and tags.STATE not in self.node.tags

    def _claim(self) -> StepFolder:
        """Take the folder that the step writes to: that of its key, or one of its own.

        It gets its own folder if it is not reused, if another job writes to the folder of its key, and if it runs although
        there is a result, which another job may be reading.
        """
        kept = tags.outputs_kept(self.node.tags)
        if self._shared and not self._context.force:
            workplace = StepFolder(cache_folder(self._key), kept)
            if workplace.claim():
                return workplace
        workplace = StepFolder(self._folder / "result", kept)
        if not workplace.claim():
            raise PipelineError(f"{workplace.folder} is in use", "stop the other process")
        return workplace

    def poll(self, free: int) -> bool:
        """Check on the process; return True once the step has ended. ``free`` is how many more processes may be started."""
        if self._state.status.over or self._activity is None:
            return True
        try:
            code = self._activity.poll(free)
            if self._activity.groups != self._groups:
                self._own(self._activity.groups)
            if code == 0 and self._preparing and not self._canceled and self._attempt is not None:
                self._go_on(self._attempt)
                code = None
        except MlopsError as error:
            self._give_up(error)
            return True
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
        missing = [name for name, path in self._outputs.items() if not path.exists()]
        if self._canceled or code or missing:
            self._workplace.abandon()
            status = Status.CANCELED if self._canceled else Status.FAILED
            self._end(status, "" if self._canceled else self._reason(code, missing))
            return
        try:
            self._keep_artifacts()
            hashes = {name: self._context.fingerprints.of(path) for name, path in self._outputs.items()}
            result = StepResult(
                self._outputs, hashes, self._state.run_id, round(self._state.seconds, 3), self._context.state.name
            )
            key = key_now(self._context, self.node, self._inputs, self._key)
            write_result(self._workplace.folder, key, result)
            if cache_folder(key) != self._workplace.folder and (
                self.node.deterministic or tags.STATE in self.node.tags
            ):
                point_to(cache_folder(key), key, result)
        except (OSError, MlopsError) as error:
            self._workplace.abandon()
            self._end(Status.FAILED, f"its outputs cannot be stored: {error}")
            return
        self._workplace.finish()
        shutil.rmtree(self._folder / "inputs", ignore_errors=True)  # copies for this step only
        self._done(result, Status.COMPLETED)

    def _keep_artifacts(self) -> None:
        """Make what it left in ``./outputs`` and ``./logs`` an output; a sweep has already taken that of its best trial."""
        assert self._workplace is not None
        target = self._workplace.outputs / ARTIFACTS
        if takes_artifacts(self.node.outputs) and keep_artifacts(self._folder / "work", target):
            self._outputs = {**self._outputs, ARTIFACTS: target}

    def _reason(self, code: int, missing: list[str]) -> str:
        if self._preparing:
            file = self._folder / FAILURE
            lines = (
                file.read_text(encoding="utf-8").splitlines()
                if file.is_file()
                else ["its environment cannot be created"]
            )
            return " -> ".join(line for line in lines if line)
        if self._activity is not None and self._activity.message:
            return self._activity.message
        if code == 127:
            return "exit code 127: one of its commands does not exist"
        if code:
            return f"exit code {code}"
        return f"succeeded, but did not write its output {missing[0]!r}"

    def _done(self, result: StepResult, status: Status) -> None:
        """Publish the outputs of a step that succeeded."""
        try:
            publish(self._context, self.node, result)
        except MlopsError as error:
            self._end(Status.FAILED, _in_one_line(error))
            return
        self._state.outputs = {name: str(path) for name, path in result.outputs.items()}
        for name, digest in result.hashes.items():
            self._context.hashes[f"{self.node.step}:{name}"] = digest
        self._end(status)

    def cancel(self) -> None:
        """Ask it to end; :meth:`poll` tells when it has."""
        self._canceled = True
        if self._activity is not None:
            self._activity.end()

    def _end(self, status: Status, message: str = "") -> None:
        context, state = self._context, self._state
        state.status, state.message, state.ended = status, message, now()
        forget_owner(self._folder)
        context.save()
        if state.run_id and status is not Status.REUSED and self._activity is not None:
            try:
                context.runs.end(state.run_id, failed=not status.succeeded)
            except MlopsError as error:  # the results of the step are worth more than its run
                state.message = f"{state.message}; {error.message}".removeprefix("; ")
                context.save()
        context.display.changed(context.state, self.node.step)

    def kill(self) -> None:
        """End its processes at once."""
        end_orphans(self._activity.groups if self._activity is not None else [])

    def last_lines(self) -> list[str]:
        """Return the end of what a failed step wrote to standard error, or to standard output if that is empty."""
        rank = self._activity.failed_rank if self._activity is not None else 0
        for stream in ("stderr", "stdout"):
            path = self._folder / log_name(stream, rank)
            if not path.is_file():
                continue
            with path.open("rb") as log:  # without what earlier attempts wrote
                log.seek(max(self._log_sizes.get(path.name, 0), path.stat().st_size - _MOST_BYTES))
                text = log.read().decode("utf-8", "replace")
            if text.strip():
                return text.rstrip().splitlines()[-_LAST_LINES:]
        return []


def _in_one_line(error: Exception) -> str:
    return " -> ".join(str(error).split("\n  -> "))
