"""A sweep's trials: what is known of one, how the engine starts and watches it, and its metrics in MLflow."""

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
        """As JSON, with the number of reports in their place."""
        return {**asdict(self), "reports": len(self.reports)}


class TrialHandle(Protocol):
    """A trial that was started."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs. Returns at once."""

    def metrics(self) -> Sequence[Report]:
        """What it has reported of the primary metric, in that order; called about once a second."""

    def metric_names(self) -> Sequence[str]:
        """Names of all metrics that it logged; called once, of a trial that never reported the primary metric."""

    def cancel(self) -> None:
        """Begin to end it, and return at once: :meth:`poll` tells when it has ended."""


TrialLauncher = Callable[[int, Mapping[str, Any]], TrialHandle]
"""Starts the trial of a number with its values; what an interrupted one of that number has left is removed first. Where
it raises MlopsError the trial counts as failed."""


def mlflow_metric_history(run_id: str, name: str) -> list[Report]:
    """Steps and values of a metric in the order in which a run logged them; empty where it has not."""
    store = mlflow_runs.client()
    history = mlflow_runs.with_retries(lambda: store.get_metric_history(run_id, name))
    return [
        (int(item.step), float(item.value)) for item in sorted(history, key=lambda item: (item.timestamp, item.step))
    ]


def mlflow_metric_names(run_id: str) -> list[str]:
    """Names of all metrics that a run logged, sorted."""
    store = mlflow_runs.client()
    return sorted(mlflow_runs.with_retries(lambda: store.get_run(run_id)).data.metrics)
