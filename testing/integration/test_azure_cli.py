"""The command line on Azure ML: what it prints, its exit codes, and that every shipped definition is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.azure_project import write_project
from testing.support.places import Place
from testing.support.registry_contract import MakeBundle
from testing.support.rehearsal import Rehearsal

from vision_mlops.jobs.pipelines import PIPELINES

SHIPPED = PIPELINES
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def loopback(place: Place) -> None:
    """Only the loopback cloud: the SDK's storage is redirected within this process."""
    _ = place.loopback


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def answer(done: tuple[int, str, str]) -> Any:
    code, out, err = done
    assert code == 0, err
    return json.loads(out)


@pytest.mark.slow
def test_a_job_from_submission_to_its_outputs(run: Run, project: Path, tmp_path: Path) -> None:
    job = answer(run("job", "run", str(project / "pipeline.yml"), "--on", "azure", "--json"))
    assert (job["status"], job["experiment"]) == ("Completed", "counting")
    assert [item["name"] for item in answer(run("job", "list", "--on", "azure", "--json"))] == [job["name"]]
    code, out, _ = run("job", "logs", job["name"], "--on", "azure")
    assert (code, "[count] this is count" in out.splitlines()) == (0, True)
    found = answer(run("job", "download", job["name"], "--out", str(tmp_path / "out"), "--json"))
    assert Path(found["note"]).is_file()


@pytest.mark.slow
def test_a_failed_job_is_exit_code_1(run: Run, place: Place, project: Path) -> None:
    place.loopback.executor = Rehearsal(failing=("count",))
    code, out, err = run("job", "run", str(project / "pipeline.yml"), "--on", "azure")
    assert code == 1
    assert out.endswith(": Failed\n")
    assert "count: Failed" in err.splitlines()


@pytest.mark.slow
def test_a_pipeline_of_ones_own_runs_for_a_workload(run: Run, project: Path, home: Path) -> None:
    text = (
        (project / "pipeline.yml")
        .read_text()
        .replace("  word: one", "  word: one\n  workload: textile\n  model_name: x")
    )
    (project / "own.yml").write_text(
        text.replace("word: ${{parent.inputs.word}}", "word: ${{parent.inputs.model_name}}")
    )
    job = answer(run("run", "--pipeline", str(project / "own.yml"), "--set", "name=birds", "--on", "azure", "--json"))
    assert (job["status"], job["tags"]["workload"], job["experiment"]) == ("Completed", "birds", "counting")
    assert {name: Path(path).is_relative_to(home / "azure") for name, path in job["outputs"].items()} == {
        "counted": True,
        "note": True,
    }
    code, _, err = run(
        "run",
        "--workload",
        "textile",
        "--pipeline",
        str(project / "own.yml"),
        "--images",
        str(project / "images"),
        "--on",
        "azure",
    )
    assert (code, "--images needs a step 'prepare'" in err) == (2, True)
    code, _, err = run("run", "--pipeline", str(project / "pipeline.yml"), "--on", "azure")
    assert (code, "has no input 'workload'" in err) == (2, True)


@pytest.mark.slow
def test_publish_trigger_and_the_same_again(run: Run, project: Path) -> None:
    publish = ("pipeline", "publish", str(project / "published.yml"), "--endpoint", "count-files")
    code, out, err = run(*publish)
    assert code == 0, err
    assert out.startswith("published: count_pipeline:")
    assert "start it with: mlops pipeline trigger count-files" in err
    assert answer(run(*publish, "--json"))["changed"] is False
    assert run(*publish)[1].startswith("unchanged: ")
    words = ("pipeline", "trigger", "count-files", "-i", f"images={project / 'images'}", "--tag", "reason=drift")
    job = answer(run(*words, "--wait", "--json"))
    assert (job["status"], job["tags"]["reason"]) == ("Completed", "drift")
    code, out, err = run(*words)
    assert code == 0
    assert "follow it with: mlops job logs count-files-" in err


@pytest.mark.slow
def test_a_triggered_job_that_fails_is_exit_code_1(run: Run, place: Place, project: Path) -> None:
    run("pipeline", "publish", str(project / "published.yml"), "--endpoint", "count-files")
    place.loopback.executor = Rehearsal(failing=("summary",))
    images = f"images={project / 'images'}"
    code, out, _ = run("pipeline", "trigger", "count-files", "-i", images, "--wait")
    assert (code, out.endswith(": Failed\n")) == (1, True)


@pytest.mark.slow
def test_schedules(run: Run, project: Path) -> None:
    code, out, _ = run("pipeline", "schedule", "create", str(project / "schedule.yml"))
    assert (code, out) == (0, "count-weekly: enabled, every week on monday at 02:30, 14:30 (UTC)\n")
    assert run("pipeline", "schedule", "pause", "count-weekly")[1].startswith("count-weekly: paused")
    (row,) = answer(run("pipeline", "schedule", "list", "--json"))
    assert (row["name"], row["enabled"]) == ("count-weekly", False)
    assert "count-weekly" in run("pipeline", "schedule", "list")[1]
    assert answer(run("pipeline", "schedule", "resume", "count-weekly", "--json"))["enabled"] is True
    assert run("pipeline", "schedule", "delete", "count-weekly")[1] == "count-weekly: deleted\n"
    assert "no schedules yet" in run("pipeline", "schedule", "list")[2]


@pytest.mark.slow
def test_models_go_from_place_to_place(
    run: Run, place: Place, plain_bundle: MakeBundle, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("models", "register", "--bundle", str(plain_bundle()), "--name", "textile", "--promote")
    shared = f"azureml://registries/{place.loopback.registry}"
    moved = answer(run("models", "transfer", "textile@champion", "--to", shared, "--json"))
    assert (moved["reference"], moved["aliases"]) == ("textile:1", [])
    code, out, _ = run("models", "transfer", "textile", "--from", shared, "--to", "azure", "--alias", "champion")
    assert (code, out) == (0, "textile:1 (@champion) is in azure\n")
    monkeypatch.setenv("MLOPS_REGISTRY", "azure")
    (row,) = answer(run("models", "list", "--json"))
    assert (row["name"], row["champion"]) == ("textile", 1)
    chain = answer(run("models", "explain", "textile@champion", "--json"))["chain"]
    assert [link["step"] for link in chain] == ["data", "run", "bundle", "evaluation", "verdict", "registry"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pipeline", "trigger", "nothing"], "error: endpoint 'nothing' was not found"),
        (["pipeline", "trigger", "nothing", "-i", "seed"], "error: --input 'seed' is not of the form NAME=VALUE"),
        (["pipeline", "trigger", "nothing", "-t", "a=1", "-t", "a=2"], "error: --tag 'a' is given twice"),
        (["pipeline", "schedule", "pause", "nothing"], "error: schedule 'nothing' was not found"),
        (["job", "cancel", "nothing", "--on", "azure"], "error: job 'nothing' was not found"),
        (["pipeline", "publish", "nothing.yml", "-e", "count"], "error: nothing.yml:1: the file does not exist"),
        (["models", "transfer", "textile", "--to", "nowhere"], "error: 'nowhere' is not a known registry"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(run: Run, words: list[str], message: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert "\n  -> " in err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AZURE_SUBSCRIPTION_ID", "11111111-2222-3333-4444-555555555555"),
        ("AZURE_RESOURCE_GROUP", "rg-other"),
        ("AZUREML_WORKSPACE_NAME", "mlw-other"),
    ],
)
def test_a_job_elsewhere_is_no_job_that_never_ran(
    run: Run, place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    words = ("job", "cancel", "train-1", "--on", "azure", "--if-running")
    assert run(*words)[::2] == (0, "no job 'train-1' exists: nothing to cancel\n")
    monkeypatch.setenv(variable, value)
    code, _, err = run(*words)
    assert code == 2, err
    assert f"check {variable}" in err


def test_missing_settings_are_exit_code_2(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("AZUREML_WORKSPACE_NAME")
    code, _, err = run("pipeline", "schedule", "list")
    assert code == 2
    assert err.startswith("error: AZUREML_WORKSPACE_NAME is not set\n  -> ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train.yml", "sweep.yml", "sweep-grid.yml", "sweep-bayesian.yml"])
def test_shipped_jobs_are_taken(run: Run, place: Place, name: str) -> None:
    job = answer(run("job", "run", str(SHIPPED / name), "--on", "azure", "--no-wait", "--json"))
    assert place.loopback.jobs.find(job["name"]).wait().status == "Completed"


@pytest.mark.slow
def test_the_shipped_component_and_schedules_are_taken(run: Run, place: Place) -> None:
    words = ("pipeline", "publish", str(SHIPPED / "train-component.yml"), "--endpoint", "vision-train", "--json")
    first = answer(run(*words))
    assert first["component"].startswith("vision_train_pipeline:")
    assert answer(run(*words)) == {**first, "changed": False}
    job = answer(run("pipeline", "trigger", "vision-train", "--input", "seed=3", "--wait", "--json"))
    assert job["status"] == "Completed"
    for name in ("schedule-cron.yml", "schedule-recurrence.yml"):
        assert run("pipeline", "schedule", "create", str(SHIPPED / name))[0] == 0
    assert len(answer(run("pipeline", "schedule", "list", "--json"))) == 2
    for schedule in ("vision-mlops-train-workdays", "vision-mlops-train-weekly"):
        assert place.loopback.fire(schedule).wait().status == "Completed"
