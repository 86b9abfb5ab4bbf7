"""Jobs on Azure ML through the real SDK: submitted, followed, cancelled, brought back, and refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.azure_project import write_project
from testing.support.places import Place
from testing.support.rehearsal import Rehearsal

from azureml_emulator.jobs.job_executor import CommandExecutor
from azureml_emulator.loopback import loopback_client
from azureml_emulator.rest.faults import Faults
from vision_mlops.azure.clients import ml_client
from vision_mlops.cli.jobs.on_azure import run_on_azure
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, MlopsError, PipelineError
from vision_mlops.jobs.azureml import azure_jobs
from vision_mlops.jobs.azureml.azure_records import JobRecord
from vision_mlops.jobs.azureml.run_history import RunHistory

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

FAST = (0.05, 0.2)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def submit(place: Place, file: Path, *overrides: str, **options: object) -> JobRecord:
    return azure_jobs.submit(file, overrides, place.settings, client=place.client, **options)  # type: ignore[arg-type]


def follow(place: Place, job: JobRecord) -> tuple[JobRecord, list[str]]:
    lines: list[str] = []
    ended = azure_jobs.stream(place.client, job.name, on_line=lines.append, poll_seconds=FAST)
    return ended, lines


@pytest.mark.slow
def test_submit_makes_what_is_needed_once(place: Place, project: Path) -> None:
    said: list[str] = []
    first = submit(place, project / "pipeline.yml", "inputs.word=two", say=said.append, tags={"reason": "test"})
    assert first.name.startswith("pipeline-")
    assert (first.type, first.display_name, first.experiment) == ("pipeline", "Count", "counting")
    assert first.tags == {"owner": "test", "reason": "test"}
    assert first.studio_url.startswith("https://")
    assert [line.split(" ")[0] for line in said] == ["uploading", "created"]
    assert "as data asset images:" in said[0]
    assert "environment vision-mlops-train:" in said[1]
    before = {kind: place.count(f"/{kind}/", "PUT") for kind in ("environments", "data", "computes")}
    assert before == {"environments": 1, "data": 1, "computes": 0}
    said.clear()
    second = submit(place, project / "pipeline.yml", say=said.append)
    assert second.name != first.name
    assert said == []
    assert before == {kind: place.count(f"/{kind}/", "PUT") for kind in before}


@pytest.mark.slow
def test_submit_outlives_throttling_faults_and_lost_connections(place: Place, project: Path, faults: Faults) -> None:
    faults.throttle("environments", times=2)
    faults.fail("data", status=503)
    faults.drop("startPendingUpload")
    faults.fail("jobs", method="PUT")
    assert submit(place, project / "pipeline.yml", name="once").name == "once"
    assert faults.pending == 0
    assert [job.name for job in azure_jobs.list_jobs(place.client)] == ["once"]


@pytest.mark.slow
def test_training_goes_to_the_gpu_cluster_where_one_is_set(place: Place, project: Path) -> None:
    cloud = place.loopback
    content = (project / "pipeline.yml").read_text()
    (project / "pipeline.yml").write_text(
        content.replace("    inputs:\n", "    compute: azureml:gpu-cluster\n    inputs:\n", 1)
    )
    said: list[str] = []

    def compute(settings: AzureSettings) -> str:
        said.clear()
        job = azure_jobs.submit(project / "pipeline.yml", (), settings, client=place.client, say=said.append)
        steps = cloud.jobs.find(job.name).resource.properties["jobs"]
        return str(steps["count"]["computeId"]).rpartition("/")[2]

    assert compute(place.settings) == "cpu-cluster"
    assert said[-1] == "note: training runs on cpu-cluster: MLOPS_AZURE_GPU_CLUSTER is not set"
    chosen = AzureSettings.model_validate({**place.settings.model_dump(exclude_unset=True), "gpu_cluster": "a100"})
    assert compute(chosen) == "a100"
    assert any("creating compute cluster a100" in line for line in said)
    cloud.add_compute("gpu-cluster", size="Standard_NC4as_T4_v3")
    assert compute(place.settings) == "gpu-cluster"


def test_what_arrives_is_what_was_meant(place: Place, project: Path) -> None:
    cloud = place.loopback
    name = submit(place, project / "pipeline.yml", "inputs.word=two words").name
    record = cloud.jobs.find(name).wait()
    sent = record.resource.properties
    assert sent["inputs"]["word"]["value"] == "two words"
    assert "/data/images/versions/" in sent["inputs"]["images"]["uri"]
    assert sent["settings"]["default_compute"].endswith("/computes/cpu-cluster")
    spec = cloud.store.get(sent["jobs"]["count"]["componentId"]).properties["componentSpec"]
    # The environment is named by its exact version, not by @latest.
    version = place.client.environments.get("vision-mlops-train", label="latest").version
    assert spec["environment"].endswith(f"/environments/vision-mlops-train/versions/{version}")
    assert record.status == "Completed"


@pytest.mark.slow
def test_content_decides_about_versions(place: Place, project: Path) -> None:
    submit(place, project / "pipeline.yml")
    (project / "images" / "a" / "1.txt").write_text("changed")
    (project / "images" / ".DS_Store").write_text("noise")
    (project / "environments" / "conda.yml").write_text("name: other\ndependencies: [python=3.12]\n")
    said: list[str] = []
    submit(place, project / "pipeline.yml", say=said.append)
    assert len(said) == 2
    assert len(list(place.client.data.list("images"))) == 2
    # Back to the old content: its version is there still.
    (project / "environments" / "conda.yml").write_text("dependencies: [python=3.11]\nname: train\n")
    said.clear()
    submit(place, project / "pipeline.yml", say=said.append)
    assert said == []


@pytest.mark.slow
def test_clusters_are_made_with_the_settings_and_never_changed(place: Place, project: Path) -> None:
    cloud = place.loopback
    settings = place.settings.model_copy(update={"cpu_cluster": "small", "gpu_sku": "Standard_NC24ads_A100_v4"})
    said: list[str] = []
    job = azure_jobs.submit(project / "pipeline.yml", (), settings, client=place.client, say=said.append)
    assert any(line.startswith("creating compute cluster small (Standard_DS3_v2") for line in said)
    sent = cloud.jobs.find(job.name).resource.properties
    assert sent["settings"]["default_compute"].endswith("/computes/small")
    made = place.client.compute.get("small")
    assert (made.size, made.min_instances, made.max_instances, made.idle_time_before_scale_down) == (
        "Standard_DS3_v2", 0, 4, 600,
    )  # fmt: skip
    cloud.add_compute("gpu-cluster", size="Standard_NC4as_T4_v3")
    said.clear()
    azure_jobs.submit(
        project / "pipeline.yml", (), settings, client=place.client, say=said.append, compute="gpu-cluster"
    )
    assert said == [
        "note: compute cluster gpu-cluster has size Standard_NC4as_T4_v3, not Standard_NC24ads_A100_v4 as in the settings;"
        " it is not changed"
    ]
    assert place.count("/computes/", "PUT") == 1


def test_a_command_job_gets_the_cluster_of_the_settings(place: Place, project: Path) -> None:
    job = submit(place, project / "command.yml", name="say-1")
    assert job.name == "say-1"
    cloud = place.loopback
    assert cloud.jobs.find(job.name).resource.properties["computeId"].endswith("/computes/cpu-cluster")
    ended, lines = follow(place, job)
    assert ended.status == "Completed"
    assert lines[-1] == "job say-1: Completed"
    with pytest.raises(AzureError, match="a job 'say-1' already exists\n  -> choose another name"):
        submit(place, project / "command.yml", name="say-1")


@pytest.mark.slow
def test_stream_says_states_and_log_lines(place: Place, project: Path) -> None:
    job = submit(place, project / "pipeline.yml")
    ended, lines = follow(place, job)
    assert (ended.name, ended.status) == (job.name, "Completed")
    assert lines[0].startswith("studio: https://")
    assert lines[-1] == f"job {job.name}: Completed"
    for step in ("count", "summary"):
        assert f"{step}: Completed" in lines
        assert [line for line in lines if line.startswith(f"[{step}] ")], lines
    steps = RunHistory(place.client).steps(job.name)
    assert {step.step: step.status for step in steps} == {"count": "Completed", "summary": "Completed"}


@pytest.mark.slow
def test_stream_of_a_failed_job(place: Place, project: Path) -> None:
    place.loopback.executor = Rehearsal(failing=("summary",))
    ended, lines = follow(place, submit(place, project / "pipeline.yml"))
    assert ended.status == "Failed"
    assert "summary: Failed" in lines
    with pytest.raises(AzureError, match="wrote no output 'note'"):
        azure_jobs.download(place.client, ended.name, ["note"], project / "out")
    assert not (project / "out").exists()


@pytest.mark.slow
def test_stream_outlives_throttling_faults_and_lost_connections(place: Place, project: Path, faults: Faults) -> None:
    held = place.loopback.executor = Rehearsal(held=True)
    job = submit(place, project / "pipeline.yml")
    faults.throttle("jobs", times=3)
    faults.fail("runs", status=503)
    faults.drop("runs")
    threading.Timer(1, held.release).start()
    ended, lines = follow(place, job)
    assert ended.status == "Completed"
    assert faults.pending == 0
    assert "[count] this is count" in lines


@pytest.mark.slow
def test_stream_says_that_it_waits_and_gives_up_in_the_end(place: Place, project: Path, faults: Faults) -> None:
    held = place.loopback.executor = Rehearsal(held=True)
    job = submit(place, project / "pipeline.yml")
    impatient = ml_client_without_retries(place)
    faults.fail("jobs", status=503, times=4)
    threading.Timer(3, held.release).start()
    lines: list[str] = []
    ended = azure_jobs.stream(impatient, job.name, on_line=lines.append, poll_seconds=FAST)
    assert ended.status == "Completed"
    assert [line for line in lines if "HTTP 503 ServiceUnavailable" in line and line.endswith("trying again")]
    assert "Azure responds again" in lines
    faults.fail("jobs", status=503, times=50)
    with pytest.raises(AzureError, match=r"HTTP 503.*\n  -> Azure has a fault: try again"):
        azure_jobs.stream(impatient, job.name, poll_seconds=FAST, patience_seconds=0.5)


def ml_client_without_retries(place: Place) -> MLClient:
    return loopback_client(place.loopback, retry_total=0)


@pytest.mark.slow
def test_ctrl_c_ends_the_following_not_the_job(place: Place, project: Path) -> None:
    held = place.loopback.executor = Rehearsal(held=True)
    job = submit(place, project / "pipeline.yml")
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if line.endswith(": Running"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        azure_jobs.stream(place.client, job.name, on_line=interrupt, poll_seconds=FAST)
    assert lines[-1] == f"job {job.name} continues; to cancel it: mlops job cancel {job.name} --on azure"
    assert place.client.jobs.get(job.name).status == "Running"
    cancelled = azure_jobs.cancel(place.client, job.name)
    assert cancelled.status == "Canceled"
    said: list[str] = []
    assert azure_jobs.cancel(place.client, job.name, say=said.append).status == "Canceled"
    assert said == [f"job {job.name} has already ended: Canceled"]
    held.release()


def test_ctrl_c_before_the_first_look_at_a_job_says_that_it_continues(
    place: Place, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client is made anew after the submission, which takes a while."""
    place.loopback.executor = Rehearsal(held=True)
    monkeypatch.setattr("vision_mlops.azure.clients.ml_client", lambda settings: interrupt())
    with pytest.raises(KeyboardInterrupt):
        run_on_azure(project / "pipeline.yml", (), "early", wait=True, skip_checks=True)
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == ["submitted early", "job early continues; to cancel it: mlops job cancel early --on azure"]
    monkeypatch.setattr(azure_jobs, "RunHistory", lambda client: interrupt())
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt), azure_jobs.told_on_interrupt("early", lines.append):
        azure_jobs.stream(place.client, "early", on_line=lines.append)
    assert lines == ["job early continues; to cancel it: mlops job cancel early --on azure"]


def test_ctrl_c_while_a_job_is_sent_says_that_it_may_exist(
    place: Place, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = type(place.client.jobs).create_or_update

    def lost(*given: object, **named: object) -> None:
        send(*given, **named)
        interrupt()

    monkeypatch.setattr(type(place.client.jobs), "create_or_update", lost)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        submit(place, project / "pipeline.yml", name="sent", say=said.append)
    assert said[-1] == ("job sent may have been submitted; to cancel it: mlops job cancel sent --on azure --if-running")
    assert azure_jobs.cancel(place.client, "sent").name == "sent"


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_download_brings_outputs_back_whole_or_not_at_all(place: Place, project: Path, faults: Faults) -> None:
    held = place.loopback.executor = Rehearsal(held=True)
    job = submit(place, project / "pipeline.yml")
    out = project / "out"
    with pytest.raises(AzureError, match=r"is (Starting|Running|Preparing)\n  -> wait until it ends"):
        azure_jobs.download(place.client, job.name, (), out)
    held.release()
    azure_jobs.stream(place.client, job.name, poll_seconds=FAST)
    with pytest.raises(AzureError, match="has no output 'notes'\n  -> it has: counted, note"):
        azure_jobs.download(place.client, job.name, ["note", "notes"], out)
    assert not out.exists()
    found = azure_jobs.download(place.client, job.name, (), out)
    assert {name: path.relative_to(out).parts[0] for name, path in found.items()} == {
        "counted": "counted", "note": "note",
    }  # fmt: skip
    assert found["counted"].is_dir()
    assert found["note"].is_file()
    assert sorted(path.name for path in out.iterdir()) == ["counted", "note"]
    with pytest.raises(MlopsError, match="exists already"):
        azure_jobs.download(place.client, job.name, (), out)


def test_list_and_metrics(place: Place, project: Path) -> None:
    first = submit(place, project / "command.yml")
    second = submit(place, project / "command.yml")
    names = [job.name for job in azure_jobs.list_jobs(place.client)]
    assert {first.name, second.name} <= set(names)
    assert len(azure_jobs.list_jobs(place.client, limit=1)) == 1
    place.loopback.jobs.find(first.name).wait()
    assert azure_jobs.tracked(place.client, place.settings, first.name).metrics == {"length": len(first.name)}
    with pytest.raises(AzureError, match=r"metrics of job 'nothing'.*HTTP 404"):
        azure_jobs.tracked(place.client, place.settings, "nothing")


@pytest.mark.parametrize(
    ("file", "overrides", "message"),
    [
        ("pipeline.yml", ["inputs.words=two"], "has no input 'words'\n  -> did you mean 'word'"),
        ("pipeline.yml", ["inputs.word"], "not of the form key=value"),
        ("pipeline.yml", ["jobs.count.inputs.word=${{parent.inputs.wrod}}"], "did you mean 'word'"),
        ("pipeline.yml", ["inputs.images=./nowhere"], "data .*nowhere does not exist"),
        ("pipeline.yml", ["inputs.images=code/count.py"], "does not exist|is a file, not a folder"),
        ("count.yml", [], "the file defines a commandComponent"),
        ("missing.yml", [], "missing.yml:1: the file does not exist"),
    ],
)
def test_wrong_input_sends_nothing(place: Place, project: Path, file: str, overrides: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        submit(place, project / file, *overrides)
    assert place.count("/jobs/", "PUT") == 0


@pytest.mark.slow
def test_a_missing_environment_file_is_named(place: Place, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "environments" / "train.yml").unlink()
    with pytest.raises(PipelineError, match=r"the environment cannot be created: .*train.yml not found"):
        submit(place, project / "pipeline.yml")
    with pytest.raises(AzureError, match="'a b' cannot be the name of a job"):
        submit(place, project / "pipeline.yml", name="a b")


def test_what_the_service_refuses_is_worded(place: Place, project: Path, faults: Faults) -> None:
    with pytest.raises(AzureError, match=r"compute 'nowhere'.*HTTP 404.*\n  -> name one that") as raised:
        submit(place, project / "pipeline.yml", compute="nowhere")
    assert raised.value.status == 404
    settings = place.settings.model_copy(update={"cpu_cluster": "big"})
    faults.fail("computes", status=400, code="ClusterCoreQuotaReached", method="PUT", retry_after=None)
    with pytest.raises(AzureError, match=r"'big' \(Standard_DS3_v2\).*ClusterCoreQuotaReached.*\n  -> ask for quota"):
        azure_jobs.submit(project / "pipeline.yml", (), settings, client=place.client)
    faults.fail("jobs", status=403, code="AuthorizationFailed", method="PUT", retry_after=None)
    with pytest.raises(AzureError, match=r"HTTP 403 AuthorizationFailed.*\n  -> ask for a role on the workspace"):
        submit(place, project / "pipeline.yml")
    with pytest.raises(
        AzureError, match=r"job 'nothing' was not found.*HTTP 404.*\n  -> see `mlops job list --on azure`"
    ):
        azure_jobs.cancel(place.client, "nothing")


@pytest.mark.parametrize("call", [azure_jobs.cancel, lambda client, name: RunHistory(client).steps(name)])
def test_a_missing_job_is_named(place: Place, call: Callable[..., object]) -> None:
    with pytest.raises(AzureError, match=r"'nothing'.*HTTP 404"):
        call(place.client, "nothing")


@pytest.mark.slow
def test_a_job_that_really_runs(place: Place, project: Path) -> None:
    if place.cloud is not None:
        place.cloud.executor = CommandExecutor()
    ended, lines = follow(place, submit(place, project / "pipeline.yml", "inputs.word=live"))
    assert ended.status == "Completed", lines
    assert "[count] live: 2 files" in lines
    found = azure_jobs.download(ml_client(place.settings), ended.name, (), project / "out")
    assert (found["counted"] / "count.txt").read_text() == "live 2"
    assert found["note"].read_text() == "live 2"


AUTOML = """\
type: automl
task: image_object_detection
primary_metric: mean_average_precision
target_column_name: label
training_data: {type: mltable, path: "azureml:images:1"}
compute: azureml:gpu-cluster
limits: {max_trials: 2, max_concurrent_trials: 1}
"""
SPARK = """\
type: spark
code: ./src
entry: {file: p.py}
conf: {spark.driver.cores: 1, spark.driver.memory: 2g, spark.executor.cores: 2, spark.executor.memory: 2g,
       spark.executor.instances: 2}
resources: {instance_type: standard_e4s_v3, runtime_version: "3.4"}
"""


LOOP = """\
type: pipeline
settings: {default_compute: azureml:cpu-cluster}
jobs:
  a: {type: command, command: "true", environment: azureml:train@latest}
  l: {type: parallel_for, body: "${{parent.jobs.a}}", items: [{}]}
"""


def test_a_loop_needs_the_private_preview_of_the_sdk(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_ML_CLI_PRIVATE_FEATURES_ENABLED", raising=False)
    file = tmp_path / "job.yml"
    file.write_text(LOOP, encoding="utf-8")
    with pytest.raises(PipelineError, match="the step 'l' only as a private preview") as raised:
        submit(place, file)
    assert "set AZURE_ML_CLI_PRIVATE_FEATURES_ENABLED=true" in str(raised.value)
    assert place.count("/jobs/", "PUT") == 0


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (AUTOML, "AutoML with taskType 'ImageObjectDetection' is not emulated"),
        (SPARK, "jobType 'Spark' is not one of Pipeline, Command, Sweep, AutoML"),
    ],
)
def test_what_only_azure_runs_is_sent(place: Place, tmp_path: Path, content: str, refusal: str) -> None:
    """The request arrives at the emulator, which runs no such jobs and says so."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "p.py").touch()
    file = tmp_path / "job.yml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(AzureError, match=refusal):
        submit(place, file)
    assert place.count("/jobs/", "PUT") == 1
    file.write_text(content.replace("type: ", "tipe: ", 1), encoding="utf-8")
    with pytest.raises(PipelineError):
        submit(place, file)
    assert place.count("/jobs/", "PUT") == 1
