"""The MLflow runs of a job: one for the job, and nested in it one for each step that runs, and for each trial."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from vision_mlops.core.errors import JobError, MissingExtraError, MlopsError
from vision_mlops.tracking import mlflow_runs


class JobRuns:
    """Opens and closes runs. MLflow takes seconds to load, so that begins in a thread while the first step is made ready.

    Without MLflow installed there are no runs, and every id is empty.

    Args:
        experiment: Of the runs.
        name: Of the job.
        tags: Of the job's run.
        run_id: Run of a job that is resumed.
        left_open: Runs of its steps that a killed process could not close.
    """

    def __init__(
        self, experiment: str, name: str, tags: Mapping[str, str], run_id: str = "", left_open: Iterable[str] = ()
    ) -> None:
        self._experiment = experiment
        self._name = name
        self._tags = dict(tags)
        self._run_id = run_id
        self._left_open = list(left_open)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._begin, daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        try:
            if self._run_id and mlflow_runs.find_run(self._run_id) is not None:
                mlflow_runs.reopen_run(self._run_id)
            else:
                self._run_id = mlflow_runs.start_run(
                    self._experiment, self._name, {"mlops.job": self._name, **self._tags}
                )
            for run_id in self._left_open:
                if mlflow_runs.find_run(run_id) is not None:
                    mlflow_runs.end_run(run_id, failed=True)
        except MissingExtraError:
            self._run_id = ""
        except Exception as error:  # noqa: BLE001 - raised where the id is asked for, in the thread that runs the job
            self._error = error

    @property
    def run_id(self) -> str:
        """Id of the job's run; waits for it.

        Raises:
            MlopsError: the store cannot be used.
        """
        self._thread.join()
        if self._error is not None:
            with _worded():
                raise self._error
        return self._run_id

    @property
    def known_id(self) -> str:
        """The same where it is known by now, else empty."""
        return "" if self._thread.is_alive() or self._error is not None else self._run_id

    def step(self, name: str, tags: Mapping[str, str] | None = None, *, parent: str = "") -> str:
        """Open the run of a step, or with ``parent`` that of a trial."""
        above = parent or self.run_id
        if not above:
            return ""
        with _worded():
            return mlflow_runs.start_child(above, name, {"mlops.job": self._name, "mlops.step": name, **(tags or {})})

    def end(self, run_id: str, *, failed: bool = False) -> None:
        """Close a run."""
        if run_id:
            with _worded():
                mlflow_runs.end_run(run_id, failed=failed)

    def note(self, tags: Mapping[str, str]) -> None:
        """Add tags to the job's run."""
        if self.run_id:
            with _worded():
                mlflow_runs.set_tags(self.run_id, tags)


@contextmanager
def _worded() -> Iterator[None]:
    """Word what MLflow raises: that is whatever its store raises."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise JobError(f"the tracking store cannot be used: {lines[0]}", "check MLFLOW_TRACKING_URI") from error
