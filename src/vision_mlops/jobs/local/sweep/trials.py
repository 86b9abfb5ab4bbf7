"""The trials of a sweep: what is known about one, how it is started and watched, and its metrics in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from vision_mlops.tracking import mlflow_runs

State = Literal["Running", "Completed", "Failed", "Canceled", "EarlyTerminated"]
Report = tuple[int, float]  # step and value


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. ``metric`` is the best value of the primary metric that it reported."""

    number: int
    values: dict[str, Any]
    state: State
    metric: float | None = None
    reports: tuple[Report, ...] = ()
    seconds: float = 0.0
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the number of reports in place of the reports."""
        return {**asdict(self), "reports": len(self.reports)}


class TrialHandle(Protocol):
    """A trial that was started."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs. Does not wait."""

    def metrics(self) -> Sequence[Report]:
        """Return what it has reported of the primary metric, in that order; called about once a second."""

    def metric_names(self) -> Sequence[str]:
        """Return the names of all metrics that it logged; called once for a trial that never reported the primary metric."""

    def cancel(self) -> None:
        """Begin to end it, without waiting: :meth:`poll` says when it has ended."""


TrialLauncher = Callable[[int, Mapping[str, Any]], TrialHandle]
"""Starts the trial with a number and values; what an interrupted trial of that number left is removed first. If it raises
MlopsError, the trial counts as failed."""


def mlflow_metric_history(run_id: str, name: str) -> list[Report]:
    """Return the steps and values of a metric in the order in which a run logged them; empty if it did not."""
    store = mlflow_runs.client()
    history = mlflow_runs.with_retries(lambda: store.get_metric_history(run_id, name))
    return [
        (int(item.step), float(item.value)) for item in sorted(history, key=lambda item: (item.timestamp, item.step))
    ]


def mlflow_metric_names(run_id: str) -> list[str]:
    """Return the names of all metrics that a run logged, sorted."""
    store = mlflow_runs.client()
    return sorted(mlflow_runs.with_retries(lambda: store.get_run(run_id)).data.metrics)
