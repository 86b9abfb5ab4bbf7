"""A run of a benchmark in MLflow: one run with the table and the report, and one below it for each new result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from vision_mlops.benchmark.arena import reason_of
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.standings import StandingRow, Standings
from vision_mlops.tracking import mlflow_runs

_LOG = logging.getLogger(__name__)
Say = Callable[[str], None]


def experiment_of(workload: str) -> str:
    """Return the name of the experiment: not that of the workload's own trainings."""
    return f"{workload}-benchmark"


def log_new_results(found: Standings, folder: BenchmarkFolder, report: Path, say: Say, warn: Say) -> None:
    """Record the results that this store does not have yet. A store that cannot be used is a warning: the results are safe.

    Args:
        found: The table.
        folder: Folder of the benchmark, which records what is logged.
        report: The report.
        say: Shows a line of progress.
        warn: Shows a warning.
    """
    store = mlflow_runs.store_key()
    new = [row for row in found.rows if not store or not folder.is_logged(row.result.name, store)]
    if not new:
        return
    say(f"logging to MLflow at {mlflow_runs.without_credentials(mlflow_runs.tracking_uri())}")
    try:
        mlflow_runs.check_reachable(experiment_of(found.workload))
        _log(found, new, folder, report)
    except Exception as error:  # noqa: BLE001 - stores are plugins, which raise what they like
        _LOG.debug("logging to MLflow failed", exc_info=True)
        why = mlflow_runs.without_credentials(reason_of(error))
        warn(f"the results could not be logged to MLflow: {why}; the next `mlops benchmark run` tries again")


def _log(found: Standings, new: list[StandingRow], folder: BenchmarkFolder, report: Path) -> None:
    tags = {"workload": found.workload, "data_fingerprint": found.fingerprint}
    parent = mlflow_runs.start_run(experiment_of(found.workload), f"benchmark-{found.fingerprint[:8]}", tags)
    try:
        for row in new:
            _log_contestant(parent, row, folder, tags)
            folder.mark_logged(row.result.name, mlflow_runs.store_key())
        best = found.rows[0].result if found.rows else None
        if best is not None:
            mlflow_runs.log_metrics(parent, {"best_accuracy": best.metrics["accuracy"]})
            mlflow_runs.set_tags(parent, {"best": best.name})
        mlflow_runs.log_artifacts(parent, report)
    except BaseException:
        mlflow_runs.end_run(parent, failed=True)
        raise
    mlflow_runs.end_run(parent)


def _log_contestant(parent: str, row: StandingRow, folder: BenchmarkFolder, tags: dict[str, str]) -> None:
    result = row.result
    more = {"contestant": result.name, "recorded": result.recorded, "remark": result.remark}
    run = mlflow_runs.start_child(parent, result.name, tags | {key: value for key, value in more.items() if value})
    mlflow_runs.log_params(run, result.settings)
    numbers: dict[str, float | None] = {
        "accuracy": result.metrics["accuracy"],
        "accuracy_low": result.metrics["accuracy_interval"][0],
        "accuracy_high": result.metrics["accuracy_interval"][1],
        "macro_f1": result.metrics["macro_f1"],
        "expected_calibration_error": result.metrics["expected_calibration_error"],
        "latency_ms": result.latency_ms.median,
        "training_seconds": result.training_seconds,
        "size_bytes": result.size_bytes,
        "training_cost": row.training_cost,
        "cost_per_1000_predictions": row.cost_per_1000,
        "p_value_against_ours": None if row.against_ours is None else row.against_ours.p_value,
    }
    mlflow_runs.log_metrics(run, {key: float(value) for key, value in numbers.items() if value is not None})
    mlflow_runs.log_artifacts(run, folder.result_folder(result.name))
    mlflow_runs.end_run(run)
