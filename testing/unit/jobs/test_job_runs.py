"""MLflow runs of local jobs: one for the job, nested in it one for each step that runs; and jobs without MLflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import command, command_job, mlops, pipeline, resume, run, state, statuses, until, write

from vision_mlops.core import paths
from vision_mlops.core.errors import MlopsError
from vision_mlops.tracking import mlflow_runs


def of_job(name: str) -> dict[str, Any]:
    """The runs that a search by the job's tag finds, by step; the job's own under an empty name."""
    store = mlflow_runs.client()
    experiments = [item.experiment_id for item in store.search_experiments()]
    found = store.search_runs(experiments, f"tags.`mlops.job` = '{name}'")
    return {run.data.tags.get("mlops.step", ""): run for run in found}


def test_runs_of_a_job_and_its_steps(tmp_path: Path, store: Path) -> None:
    jobs = {
        "good": command("echo $MLFLOW_RUN_ID > ${{outputs.out}}; echo $MLFLOW_TRACKING_URI", {"out": "uri_file"}),
        "bad": command("exit 1"),
        "after": command("cat ${{inputs.x}}", inputs={"x": "${{parent.jobs.good.outputs.out}}"}),
    }
    file = write(tmp_path / "job.yml", pipeline(jobs, experiment_name="exp", tags={"team": "x"}))
    ended = run(file, name="job")
    runs = of_job("job")
    assert set(runs) == {"", "good", "bad", "after"}
    job = runs.pop("")
    assert job.info.run_id == ended.state.run_id == state("job")["run_id"]
    assert mlflow_runs.client().get_experiment(job.info.experiment_id).name == "exp"
    assert (job.info.run_name, job.info.status) == ("job", "FAILED")
    assert job.data.tags.items() >= {"team": "x", "mlops.definition": "job.yml", "mlops.step.bad": "Failed"}.items()
    assert {name: item.info.status for name, item in runs.items()} == {
        "good": "FINISHED", "bad": "FAILED", "after": "FINISHED"}  # fmt: skip
    for name, item in runs.items():
        assert item.info.run_id == ended.state.steps[name].run_id
        assert item.info.run_name == name
        assert item.data.tags["mlflow.parentRunId"] == ended.state.run_id
    given = Path(ended.state.steps["good"].outputs["out"]).read_text().strip()
    assert given == runs["good"].info.run_id
    log = Path(ended.state.steps["good"].folder) / "stdout.log"
    assert log.read_text().strip() == f"sqlite:///{store}/mlflow.db"


def test_reused_steps_have_the_run_that_made_them(tmp_path: Path, store: Path) -> None:
    file = write(tmp_path / "job.yml", pipeline({"a": command("true")}))
    first, second = run(file, name="first"), run(file, name="second")
    assert second.state.steps["a"].run_id == first.state.steps["a"].run_id
    assert set(of_job("second")) == {""}
    assert of_job("second")[""].info.status == "FINISHED"
    assert of_job("first")["a"].info.status == "FINISHED"


def test_a_resumed_job_goes_on_in_its_run(tmp_path: Path, store: Path) -> None:
    mark = tmp_path / "mark"
    file = write(tmp_path / "job.yml", pipeline({"a": command(f"test -e {mark}"), "b": command("true")}))
    first = run(file, name="job")
    assert of_job("job")[""].info.status == "FAILED"
    mark.touch()
    second = resume("job")
    assert statuses(second) == {"a": "Completed", "b": "Completed"}
    assert second.state.run_id == first.state.run_id
    assert of_job("job")[""].info.status == "FINISHED"
    everything = mlflow_runs.client().search_runs(
        [of_job("job")[""].info.experiment_id], "tags.`mlops.step` = 'a'", order_by=["attributes.start_time"]
    )
    assert [item.info.status for item in everything] == ["FAILED", "FINISHED"]


def test_a_store_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{write(tmp_path / 'text.db', 'no database' * 99)}")
    file = write(tmp_path / "job.yml", pipeline({"a": command("true")}))
    with pytest.raises(MlopsError, match="is not an SQLite database"):
        run(file, name="job")
    found = state("job")
    assert found["status"] == found["steps"]["a"]["status"] == "Failed"
    assert "is not an SQLite database" in found["steps"]["a"]["message"]


def test_without_mlflow_jobs_run_all_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "job.yml", pipeline({"a": command('echo "<$MLFLOW_RUN_ID>"')}))
    done = mlops("job", "run", file, "--json", "--name", "job")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["run_id"], found["steps"]["a"]["run_id"]) == ("", "")
    assert (Path(found["steps"]["a"]["folder"]) / "stdout.log").read_text() == "<>\n"
    assert not (paths.home() / "mlflow.db").exists()


@pytest.mark.slow
def test_a_step_logs_into_its_own_run(tmp_path: Path, store: Path) -> None:
    write(tmp_path / "code" / "step.py", "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('accuracy', 0.5)\n"
          "    mlflow.log_param('rate', 1)\n    with mlflow.start_run(nested=True):\n        mlflow.log_metric('inner', 1)\n"
          "mlflow.log_metric('late', 2)\n")  # fmt: skip
    write(tmp_path / "code" / "bare.py", "import mlflow\nmlflow.log_metric('bare', 3)\n")
    jobs = {"a": command("python step.py", code="./code"), "b": command("python bare.py", code="./code")}
    ended = run(write(tmp_path / "job.yml", pipeline(jobs)), name="job", jobs=2)
    assert statuses(ended) == {"a": "Completed", "b": "Completed"}, ended.failures
    runs = of_job("job")
    assert runs["a"].data.metrics == {"accuracy": 0.5}
    assert runs["a"].data.params == {"rate": "1"}
    assert runs["b"].data.metrics == {"bare": 3}
    assert {runs[name].info.status for name in "ab"} == {"FINISHED"}
    experiment = runs["a"].info.experiment_id
    inner = mlflow_runs.client().search_runs([experiment], f"tags.`mlflow.parentRunId` = '{runs['a'].info.run_id}'")
    assert [item.data.metrics for item in inner] == [{"inner": 1}]
    # MLflow gives the run away once; what comes after it is a run of its own, in the same experiment.
    late = mlflow_runs.client().search_runs([experiment], "metrics.late = 2")
    assert len(late) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_run_stays_open(tmp_path: Path, store: Path, number: signal.Signals) -> None:
    text_of = f"touch {tmp_path}/begun; [ -e {tmp_path}/go ] || sleep 60"
    file = write(tmp_path / "job.yml", command_job(text_of))
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", "job", "run", str(file), "--name", "job"],
        env=os.environ, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until((tmp_path / "begun").exists, 60)
    until(lambda: state("job")["run_id"])
    process.send_signal(number)
    process.wait(30)
    before = of_job("job")
    expected = {"RUNNING"} if number == signal.SIGKILL else {"FAILED"}
    assert {item.info.status for item in before.values()} == expected
    (tmp_path / "go").touch()
    ended = resume("job")
    assert ended.state.run_id == before[""].info.run_id
    experiment = before[""].info.experiment_id
    everything = mlflow_runs.client().search_runs([experiment], order_by=["attributes.start_time"])
    assert sorted(item.info.status for item in everything) == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.parametrize(
    ("skipped", "message"), [(0, "is not an SQLite database"), (1, "the tracking store cannot be used")]
)
def test_a_store_that_breaks_while_the_job_runs(tmp_path: Path, store: Path, skipped: int, message: str) -> None:
    """What the steps have made is worth more than their runs."""
    spoil = f"dd if=/dev/zero of=$MLOPS_HOME/mlflow.db bs=4096 seek={skipped} count=100 conv=notrunc status=none"
    text_of = f"{spoil} && echo made > ${{{{outputs.out}}}}"
    file = write(tmp_path / "job.yml", command_job(text_of, {"out": "uri_file"}))
    ended = run(file, name="job")
    assert ended.state.status == "Completed"
    assert Path(ended.state.outputs["out"]).read_text() == "made\n"
    assert message in state("job")["message"]
    assert message in state("job")["steps"]["job"]["message"]
