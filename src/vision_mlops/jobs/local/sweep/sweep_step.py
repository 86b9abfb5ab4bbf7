"""Runs a sweep as a step of a job: its trials are processes of their own, and the outputs of the best become the step's."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from vision_mlops.core.errors import MissingExtraError
from vision_mlops.core.files import atomic_write, remove_path
from vision_mlops.core.text import counted
from vision_mlops.jobs.definitions.models.ports import literal_text
from vision_mlops.jobs.definitions.models.sweep import Sweep
from vision_mlops.jobs.definitions.step_graph import ARTIFACTS
from vision_mlops.jobs.local.state.job_state import StepState
from vision_mlops.jobs.local.steps.code_snapshots import copy_code
from vision_mlops.jobs.local.steps.default_artifacts import keep_artifacts, takes_artifacts
from vision_mlops.jobs.local.steps.step_attempt import Attempt
from vision_mlops.jobs.local.steps.step_process import LogTail
from vision_mlops.jobs.local.sweep.leaderboard import write_leaderboard
from vision_mlops.jobs.local.sweep.sweep_run import SweepResult, SweepRun
from vision_mlops.jobs.local.sweep.trials import Report, Trial, mlflow_metric_history, mlflow_metric_names
from vision_mlops.tracking import mlflow_runs

# Hidden among the outputs, so that an interrupted sweep continues there; removed once it is complete.
_KEPT = ".sweep"


class TrialProcess:
    """One running trial."""

    def __init__(self, attempt: Attempt, metric: str, searched: Mapping[str, str]) -> None:
        node = attempt.node
        self.label = f"{node.step}/{attempt.folder.name}"
        self.run_id = attempt.run_id
        self.code: int | None = None
        self._metric = metric
        self._context = attempt.context
        self._work, self._results = attempt.work, attempt.results
        self._keeps = takes_artifacts(node.outputs)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        self._tails = [LogTail(attempt.folder / name) for name in ("stdout.log", "stderr.log")]
        self._process = attempt.process(searched)
        self._process.start()
        self.groups = self._process.groups

    def poll(self) -> int | None:
        """Return its exit code once it has ended."""
        if self.code is None:
            code = self._process.poll()
            for tail in self._tails:
                for line in tail.lines(last=code is not None):
                    self._context.display.line(self.label, line)
            if code is not None:
                self.code = code
                if code == 0 and self._keeps:
                    keep_artifacts(self._work, self._results / ARTIFACTS)
                self._context.runs.end(self.run_id, failed=code != 0)
        return self.code

    def metrics(self) -> Sequence[Report]:
        """Return what it logged of the primary metric."""
        return mlflow_metric_history(self.run_id, self._metric)

    def metric_names(self) -> Sequence[str]:
        """Return the names of all metrics that it logged."""
        return mlflow_metric_names(self.run_id)

    def cancel(self) -> None:
        """Ask it to end; not with SIGINT, which would print a traceback."""
        self._process.end(signal.SIGTERM)


@dataclass
class SweepActivity:
    """The trials of a sweep step or job.

    Attributes:
        attempt: The attempt at the step; each trial is a variation of it.
        sweep: Space, objective, limits.
        state: State of the step, whose details contain the progress.
    """

    attempt: Attempt
    sweep: Sweep
    state: StepState
    message: str = ""
    failed_rank: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not self.attempt.run_id:
            raise MissingExtraError("mlflow", "train")  # through which trials report their metric
        self._running: list[TrialProcess] = []
        self._kept = self.attempt.results / _KEPT
        self._table = self.attempt.folder / "trials"
        self._run: SweepRun | None = None
        self._seen: tuple[Any, ...] = ()

    def start(self) -> None:
        """Begin the sweep, with the trials that an interrupted one has finished."""
        self._run = SweepRun(self.sweep, self._kept, self.launch)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The processes of the running trials."""
        return [group for trial in self._running for group in trial.groups]

    @property
    def slots(self) -> int:
        """The number of running trials."""
        return len(self._running)

    def poll(self, free: int) -> int | None:
        """Check on the trials; return the exit code once the sweep has ended."""
        assert self._run is not None
        result = self._run.poll(free)
        self._running = [trial for trial in self._running if trial.code is None]
        self._tell(self._run.trials)
        return None if result is None else self._conclude(result)

    def end(self) -> None:
        """Cancel the sweep."""
        if self._run is not None:
            self._run.cancel()

    def launch(self, number: int, values: Mapping[str, Any]) -> TrialProcess:
        """Start one trial in folders of its own."""
        declared = self.attempt.node.declared
        texts = {name: str(value) for name, value in values.items()}
        texts |= {name: literal_text(texts[name], declared[name]) for name in texts if name in declared}
        outputs = self._trial_outputs(number)
        shutil.rmtree(outputs, ignore_errors=True)
        outputs.mkdir(parents=True)
        folder = self._table / str(number)
        node = self.attempt.node
        run_id = self.attempt.context.runs.step(
            f"{node.step}-trial-{number}", {"mlops.trial": str(number)}, parent=self.attempt.run_id
        )
        mlflow_runs.log_params(run_id, dict(values))
        attempt = replace(
            self.attempt,
            folder=folder,
            work=folder / "work",
            results=outputs,
            inputs={**self.attempt.inputs, **{key: text for key, text in texts.items() if key in node.declared}},
            outputs={name: outputs / name for name in node.outputs},
            run_id=run_id,
        )
        for name, target in node.outputs.items():
            if target.type != "uri_file":
                attempt.outputs[name].mkdir()
        copy_code(node, attempt.work)
        trial = TrialProcess(attempt, self.sweep.objective.primary_metric, texts)
        self._running.append(trial)
        return trial

    def _trial_outputs(self, number: int) -> Path:
        return self._kept / "outputs" / str(number)

    def _tell(self, trials: Sequence[Trial]) -> None:
        """Update the progress that the display and `state.json` show."""
        seen = tuple((trial.number, trial.state, trial.metric) for trial in trials)
        if seen == self._seen:
            return
        self._seen = seen
        over = [trial for trial in trials if trial.state != "Running"]
        values = [trial.metric for trial in trials if trial.metric is not None]
        best = (max if self.sweep.objective.goal == "maximize" else min)(values, default=None)
        total = self.sweep.limits.max_total_trials
        progress = f"{len(over)} of {counted(total, 'trial')}"
        note = f", best {self.sweep.objective.primary_metric} {best:.4g}" if best is not None else ""
        self.state.details = {"progress": progress + note, "trials": [trial.to_dict() for trial in trials]}
        self.attempt.context.save()

    def _conclude(self, result: SweepResult) -> int:
        """Write the table and the picture, and make the best trial's outputs those of the step."""
        self.state.details["best"] = result.best.to_dict() if result.best else None
        self.message = result.message
        if result.trials:
            objective = self.sweep.objective
            write_leaderboard(self._table, result.trials, objective.primary_metric, objective.goal)
            self._log(result)
        if result.status != "Completed" or result.best is None:
            return 1
        source = self._trial_outputs(result.best.number)
        for name in {**self.attempt.outputs, ARTIFACTS: ""}:
            path = self.attempt.results / name
            if (source / name).is_dir():
                shutil.copytree(source / name, path, symlinks=True, dirs_exist_ok=True)
            elif (source / name).exists():
                shutil.copy2(source / name, path)
        self._show_artifacts(result.trials)
        values = shlex.join(f"{key}={value}" for key, value in result.best.values.items())
        metric = f"{self.sweep.objective.primary_metric} {result.best.metric:.4g}"
        self.attempt.context.display.line(
            self.attempt.node.step, f"best: trial {result.best.number}, {metric}, {values}"
        )
        self.attempt.context.display.line(self.attempt.node.step, f"trials: {self._table / 'trials.csv'}")
        return 0

    def _show_artifacts(self, trials: Sequence[Trial]) -> None:
        """Move the default artifacts of each trial to its logs, because the outputs of trials are removed at the end."""
        for trial in trials:
            source, target = self._trial_outputs(trial.number) / ARTIFACTS, self._table / str(trial.number) / ARTIFACTS
            if source.is_dir():
                remove_path(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, target)

    def _log(self, result: SweepResult) -> None:
        """Log the table, the picture and the best values to the sweep's MLflow run."""
        run_id = self.attempt.run_id
        for name in ("trials.csv", "trials.json", "trials.svg"):
            mlflow_runs.log_artifacts(run_id, self._table / name)
        if result.best is not None and result.best.metric is not None:
            mlflow_runs.log_metrics(run_id, {f"best_{self.sweep.objective.primary_metric}": result.best.metric})
            mlflow_runs.set_tags(run_id, {"mlops.best_trial": str(result.best.number)})
            atomic_write(self._table / "best.json", json.dumps(result.best.to_dict(), indent=2) + "\n")
