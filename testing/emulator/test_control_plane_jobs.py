"""Jobs in the loopback cloud, with the real SDK: taken in, watched, downloaded, cancelled, refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import COMMAND, SMALL, finished, submit

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.loopback import loopback_client

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

pytestmark = pytest.mark.slow


def test_a_job_is_found_listed_and_edited(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.ai.ml.constants import ListViewType

    submit(client, project / "pipeline.yml", "first")
    submit(client, project / "command.yml", "second")
    finished(cloud, "first")
    found = client.jobs.get("first")
    assert (found.status, found.display_name, found.type) == ("Completed", "Demonstration", "pipeline")
    assert f"/runs/first?wsid={cloud.path()}" in str(found.studio_url)
    assert [item.name for item in client.jobs.list()] == ["second", "first"]
    client.jobs.update("first", display_name="Renamed", tags={"good": "yes"})
    assert client.jobs.get("first").display_name == "Renamed"
    assert client.jobs.get("first").tags == {"who": "test", "good": "yes"}
    client.jobs.archive("first")
    assert [item.name for item in client.jobs.list()] == ["second"]
    assert [item.name for item in client.jobs.list(list_view_type=ListViewType.ARCHIVED_ONLY)] == ["first"]


def test_a_missing_job_is_not_found(client: MLClient) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    for call in (client.jobs.get, client.jobs.stream, client.jobs.begin_cancel, client.jobs.download):
        with pytest.raises(ResourceNotFoundError, match="Job 'nothing' was not found"):
            call("nothing")


def test_a_job_is_streamed_while_it_runs(
    client: MLClient, cloud: EmulatedCloud, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    cloud.executor = rehearsal = Rehearsal(held=True)
    submit(client, project / "pipeline.yml")
    assert client.jobs.get("job").status in ("Preparing", "Running")
    timer = threading.Timer(1.5, rehearsal.release)
    timer.start()
    client.jobs.stream("job")
    timer.join()
    printed = capsys.readouterr().out
    assert "Streaming logs/azureml/executionlogs.txt" in printed
    assert "rehearsing job" in printed
    assert finished(cloud).status == "Completed"


def test_a_command_is_streamed_from_the_artifact_store(
    client: MLClient, cloud: EmulatedCloud, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    cloud.executor = rehearsal = Rehearsal(held=True)
    submit(client, project / "command.yml")
    assert str(client.jobs.get("job").outputs["default"].path).endswith("ExperimentRun/dcid.job")
    timer = threading.Timer(1.5, rehearsal.release)
    timer.start()
    client.jobs.stream("job")
    timer.join()
    assert "Streaming user_logs/std_log.txt" in capsys.readouterr().out
    assert client.jobs.show_services("job") is None


def test_an_output_of_a_job_becomes_a_model(
    client: MLClient, cloud: EmulatedCloud, project: Path, tmp_path: Path, rehearsal: Rehearsal
) -> None:
    from azure.ai.ml.entities import Model
    from azure.core.exceptions import ResourceNotFoundError

    submit(client, project / "pipeline.yml")
    finished(cloud)
    path = "azureml://jobs/job/outputs/data"
    client.models.create_or_update(Model(name="counts", version="1", path=path, type="custom_model"))
    client.models.download("counts", "1", download_path=str(tmp_path))
    assert [file.read_text() for file in tmp_path.rglob("made.txt")] == ["outputs data\n"]
    with pytest.raises(ResourceNotFoundError, match="no output 'other'"):
        client.models.create_or_update(Model(name="counts", version="2", path="azureml://jobs/job/outputs/other"))


def test_the_steps_are_child_jobs(client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal) -> None:
    from azure.ai.ml.exceptions import PipelineChildJobError

    submit(client, project / "pipeline.yml")
    finished(cloud)
    children = list(client.jobs.list(parent_job_name="job"))
    assert [child.display_name for child in children] == ["prep", "fit"]
    assert {child.status for child in children} == {"Completed"}
    assert client.jobs.get(str(children[0].name)).display_name == "prep"
    with pytest.raises(PipelineChildJobError):
        client.jobs.stream(str(children[0].name))


def test_outputs_and_logs_are_downloaded(
    client: MLClient, cloud: EmulatedCloud, project: Path, tmp_path: Path, rehearsal: Rehearsal
) -> None:
    # Not the model: azure-ai-ml 1.35.2 cannot build its own request for outputs of the types of models.
    submit(client, project / "pipeline.yml")
    finished(cloud)
    client.jobs.download("job", download_path=tmp_path / "data", output_name="data")
    assert (tmp_path / "data" / "named-outputs" / "data" / "made.txt").read_text() == "outputs data\n"
    client.jobs.download("job", download_path=tmp_path / "logs")
    log = tmp_path / "logs" / "artifacts" / "logs" / "azureml" / "executionlogs.txt"
    assert log.read_text() == "rehearsing job\n"
    children = {child.display_name: str(child.name) for child in client.jobs.list(parent_job_name="job")}
    client.jobs.download(children["prep"], download_path=tmp_path / "prep", all=True)
    assert (tmp_path / "prep" / "named-outputs" / "prepped" / "made.txt").read_text() == "steps/prep prepped\n"
    assert (tmp_path / "prep" / "artifacts" / "user_logs" / "std_log.txt").read_text() == "this is prep\n"


def test_a_file_output_comes_back_as_a_file(
    client: MLClient, cloud: EmulatedCloud, project: Path, tmp_path: Path, rehearsal: Rehearsal
) -> None:
    submit(client, project / "command.yml")
    finished(cloud)
    client.jobs.download("job", download_path=tmp_path / "down", output_name="text")
    files = [path for path in (tmp_path / "down").rglob("*") if path.is_file()]
    assert [file.read_text() for file in files] == ["outputs text\n"]


def test_a_named_output_becomes_an_asset(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    for number, name in enumerate(("first", "second"), 1):
        submit(client, project / "pipeline.yml", name)
        finished(cloud, name)
        found = client.models.get("textile", label="latest")
        assert (found.version, found.job_name) == (str(number), name)


def test_a_failing_step_fails_the_job(client: MLClient, cloud: EmulatedCloud, project: Path) -> None:
    from azure.ai.ml.exceptions import JobException

    cloud.executor = Rehearsal(failing=("prep",))
    submit(client, project / "pipeline.yml")
    finished(cloud, status="Failed")
    statuses = {child.display_name: child.status for child in client.jobs.list(parent_job_name="job")}
    assert statuses == {"prep": "Failed", "fit": "Canceled"}
    with pytest.raises(JobException, match="step prep failed"):
        client.jobs.stream("job")


def test_a_job_is_cancelled(client: MLClient, cloud: EmulatedCloud, project: Path) -> None:
    from azure.ai.ml.exceptions import JobException
    from azure.core.exceptions import HttpResponseError

    cloud.executor = Rehearsal(held=True)
    submit(client, project / "pipeline.yml")
    with pytest.raises(JobException, match="Download is allowed only in states"):
        client.jobs.download("job")
    client.jobs.begin_cancel("job").result()
    assert client.jobs.get("job").status == "Canceled"
    cloud.executor = Rehearsal()
    submit(client, project / "pipeline.yml", "other")
    finished(cloud, "other")
    with pytest.raises(HttpResponseError, match="cannot be cancelled"):
        client.jobs.begin_cancel("other").result()


def test_a_job_cannot_become_another_one(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.core.exceptions import ResourceExistsError

    submit(client, project / "pipeline.yml")
    finished(cloud)
    with pytest.raises(ResourceExistsError, match="already exists: jobType cannot be changed"):
        submit(client, project / "command.yml")


def test_what_a_job_refers_to_must_exist(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import HttpResponseError

    file = project / "command.yml"
    for old, new, what in (
        ("azureml:train@latest", "azureml:train:9", "environment train:9"),
        ("azureml:cpu-cluster", "azureml:gpu", "Unknown compute target 'gpu'"),
        ("path: ./images/a.txt", "path: azureml:images:4", "data images:4"),
    ):
        file.write_text(COMMAND.replace(old, new))
        with pytest.raises(HttpResponseError, match=what):
            submit(client, file)
    pipeline = project / "pipeline.yml"
    pipeline.write_text(SMALL.replace("cpu-cluster", "gpu"))
    with pytest.raises((HttpResponseError, MlException), match="gpu"):
        submit(client, pipeline)
    assert list(client.jobs.list()) == []


def test_a_throttled_submission_gets_through(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    cloud.faults.throttle("jobs", times=2, method="PUT")
    cloud.faults.drop("codes")
    submit(client, project / "pipeline.yml")
    finished(cloud)
    assert [item.status for item in cloud.seen("/jobs/job", "PUT")] == [429, 429, 201]


def test_a_finished_job_is_deleted(client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    submit(client, project / "command.yml")
    finished(cloud)
    client.jobs.begin_delete("job").result()
    with pytest.raises(ResourceNotFoundError):
        client.jobs.get("job")


def test_metrics_are_read_from_the_tracking_server(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    from azure.core.rest import HttpRequest

    submit(client, project / "command.yml")
    finished(cloud)
    base = str(client.workspaces.get("ws").mlflow_tracking_uri).replace("azureml://", "https://")
    arm = client._service_client_06_2023_preview
    answer = arm.send_request(HttpRequest("GET", f"{base}/api/2.0/mlflow/runs/get?run_id=job"))
    assert answer.json()["run"]["data"]["metrics"] == [{"key": "length", "value": 3.0, "step": 0}]
    answer = arm.send_request(HttpRequest("GET", f"{base}/api/2.0/mlflow/runs/get?run_id=nothing"))
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_jobs_of_two_workspaces_are_apart(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    cloud.add_workspace("prod")
    submit(client, project / "command.yml")
    finished(cloud)
    assert list(loopback_client(cloud, workspace_name="prod").jobs.list()) == []
