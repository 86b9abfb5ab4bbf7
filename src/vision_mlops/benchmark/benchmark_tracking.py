"""A run of a benchmark in MLflow: one run with the table and the report, and one below it for each contestant."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.standings import StandingRow, Standings
from vision_mlops.tracking import mlflow_runs


def experiment_of(workload: str) -> str:
    """Name of the experiment: not that of the workload's own trainings."""
    return f"{workload}-benchmark"


def log_benchmark(found: Standings, folder: BenchmarkFolder, report: Path) -> str:
    """Record the table; returns the id of the run."""
    tags = {"workload": found.workload, "data_fingerprint": found.fingerprint}
    parent = mlflow_runs.start_run(experiment_of(found.workload), f"benchmark-{found.fingerprint[:8]}", tags)
    try:
        for row in found.rows:
            _log_contestant(parent, row, folder, tags)
        best = found.rows[0].result if found.rows else None
        if best is not None:
            mlflow_runs.log_metrics(parent, {"best_accuracy": best.metrics["accuracy"]})
            mlflow_runs.set_tags(parent, {"best": best.name})
        mlflow_runs.log_artifact(parent, report)
    except BaseException:
        mlflow_runs.end_run(parent, failed=True)
        raise
    mlflow_runs.end_run(parent)
    return parent


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
