"""The tracking store: where it is, that it is silent, and that first use survives a race."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vision_mlops.core.errors import MissingExtraError, MlopsError
from vision_mlops.tracking import mlflow_runs

_FIRST_USE = """
from vision_mlops.tracking import mlflow_runs
print(mlflow_runs.start_run("race", "run"))
"""


def test_uri_is_below_home_unless_the_environment_says_otherwise(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlflow_runs.tracking_uri() == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "azureml://somewhere")
    assert mlflow_runs.tracking_uri() == "azureml://somewhere"


def test_importing_loads_no_mlflow() -> None:
    code = "import sys, vision_mlops.tracking.mlflow_runs, vision_mlops.registry; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_run_holds_params_metrics_and_files(store: Path, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "metrics.json").write_text("{}")
    run_id = mlflow_runs.start_run("textile", "first", {"kind": "test"})
    mlflow_runs.log_params(run_id, {"training": {"epochs": 2}, "name": "x" * 7000})
    metrics = {"accuracy": 0.5, "recall/a:b": 1.0, "bad": math.nan, "worse": math.inf}
    assert mlflow_runs.log_evaluation(run_id, metrics, tmp_path / "report")
    mlflow_runs.end_run(run_id)
    run = mlflow_runs.find_run(run_id)
    assert run is not None
    assert run.data.params["training.epochs"] == "2"
    assert run.data.metrics == {"accuracy": 0.5, "recall/a_b": 1.0}
    assert run.data.tags["kind"] == "test"
    assert run.info.status == "FINISHED"
    files = list((store / "artifacts").rglob("metrics.json"))
    assert [path.parent.name for path in files] == ["evaluation"]


def test_more_metrics_than_one_request_takes(store: Path) -> None:
    run_id = mlflow_runs.start_run("textile", "many")
    mlflow_runs.log_metrics(run_id, {f"m{i}": float(i) for i in range(250)})
    run = mlflow_runs.find_run(run_id)
    assert run is not None
    assert len(run.data.metrics) == 250


@pytest.mark.parametrize("run_id", ["", "0" * 32, "not an id / at all"])
def test_evaluation_of_a_run_of_another_store_is_not_logged(store: Path, tmp_path: Path, run_id: str) -> None:
    assert not mlflow_runs.log_evaluation(run_id, {"accuracy": 1.0}, tmp_path)


def test_looking_for_a_run_creates_no_store(home: Path, tmp_path: Path) -> None:
    assert not mlflow_runs.log_evaluation("0" * 32, {"accuracy": 1.0}, tmp_path)
    assert not home.exists()


def test_deleted_run_and_experiment(store: Path, tmp_path: Path) -> None:
    run_id = mlflow_runs.start_run("textile", "first")
    client = mlflow_runs.client()
    client.delete_run(run_id)
    assert not mlflow_runs.log_evaluation(run_id, {"accuracy": 1.0}, tmp_path)
    first = mlflow_runs.experiment_id("textile")
    client.delete_experiment(first)
    assert mlflow_runs.experiment_id("textile") == first
    assert mlflow_runs.start_run("textile", "second")


def test_run_of_a_surrounding_job_is_used_and_left_open(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = mlflow_runs.start_run("textile", "job")
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert mlflow_runs.start_run("other", "mine", {"step": "train"}) == given
    mlflow_runs.end_run(given)
    run = mlflow_runs.find_run(given)
    assert run is not None
    assert (run.info.status, run.data.tags["step"]) == ("RUNNING", "train")


def test_a_file_that_is_no_database_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_text("this is not a database")
    with pytest.raises(MlopsError, match=r"mlflow\.db is not an SQLite database"):
        mlflow_runs.client()


def test_home_that_is_a_file_is_refused(home: Path) -> None:
    home.write_text("")
    with pytest.raises(MlopsError, match="cannot be written") as caught:
        mlflow_runs.client()
    assert "MLOPS_HOME" in caught.value.hint


def test_missing_mlflow_names_the_extra(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"vision-mlops\[train\]"):
        mlflow_runs.client()


def test_lock_that_is_held_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_runs, "LOCK_TIMEOUT_SECONDS", 0.1)
    with (
        mlflow_runs.file_lock(tmp_path / "lock"),
        pytest.raises(MlopsError, match="locked by another process"),
        mlflow_runs.file_lock(tmp_path / "lock"),
    ):
        raise AssertionError("the lock was given twice")


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    calls: list[int] = []
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def locked(until: int) -> str:
        calls.append(1)
        if len(calls) < until:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return "done"

    assert mlflow_runs.with_retries(lambda: locked(4)) == "done"
    with pytest.raises(MlflowException, match="is locked"):
        mlflow_runs.with_retries(lambda: locked(100))
    assert len(calls) == 12


@pytest.mark.slow
def test_two_processes_create_the_store_at_once_and_say_nothing(tmp_path: Path) -> None:
    home = tmp_path / "a home é"
    environment = {**os.environ, "MLOPS_HOME": str(home)}
    command = [sys.executable, "-c", _FIRST_USE]
    started = [
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=-1, stderr=-1, text=True) for _ in range(2)
    ]
    results = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0], results
    assert [len(out.strip()) for out, _ in results] == [32, 32]
    assert [err for _, err in results] == ["", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a home é"]
    assert sorted(path.name for path in home.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
