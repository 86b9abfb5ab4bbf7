"""Published pipelines and schedules through the real SDK: made once, changed in place, called, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.support.azure_project import write_project
from testing.support.places import ENDPOINT, Place
from testing.support.rehearsal import Rehearsal

from azureml_emulator.rest.faults import Faults
from vision_mlops.core.errors import AzureError, PipelineError
from vision_mlops.jobs.azureml import azure_jobs, published_pipelines, schedules
from vision_mlops.jobs.azureml.azure_records import EndpointRecord, JobRecord, ScheduleRecord

FAST = (0.05, 0.2)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def publish(place: Place, project: Path, *, said: list[str] | None = None, deployment: str = "main") -> EndpointRecord:
    say = said.append if said is not None else lambda text: None
    file = project / "published.yml"
    return published_pipelines.publish(file, ENDPOINT, deployment, place.settings, client=place.client, say=say)


def trigger(place: Place, inputs: dict[str, str], *, wait: bool = False, lines: list[str] | None = None) -> JobRecord:
    on_line = lines.append if lines is not None else lambda text: None
    tags = {"trigger": "test"}
    return published_pipelines.trigger(
        ENDPOINT, inputs, tags, place.settings, wait=wait, client=place.client, on_line=on_line, poll_seconds=FAST
    )


def create(place: Place, project: Path) -> ScheduleRecord:
    return schedules.create(project / "schedule.yml", place.settings, client=place.client)


def test_publish_twice_changes_nothing(place: Place, project: Path) -> None:
    said: list[str] = []
    first = publish(place, project, said=said)
    assert (first.endpoint, first.deployment, first.changed) == (ENDPOINT, "main", True)
    assert first.component.startswith("count_pipeline:")
    assert first.scoring_url.startswith("https://")
    assert [line.split(" ")[0] for line in said] == ["created", "registered", "creating", "deploying", "main"]
    writes = {kind: place.count(f"/{kind}", "PUT") for kind in ("batchEndpoints", "components", "environments")}
    said.clear()
    second = publish(place, project, said=said)
    assert (second.component, second.changed, said) == (first.component, False, [])
    assert writes == {kind: place.count(f"/{kind}", "PUT") for kind in writes}


@pytest.mark.slow
def test_the_same_project_elsewhere_is_the_same_version(place: Place, project: Path, tmp_path: Path) -> None:
    first = publish(place, project)
    other = write_project(tmp_path / "other" / "place")
    assert publish(place, other).component == first.component
    (other / "code" / "count.py").write_text("print('changed')")
    third = publish(place, other)
    assert third.component != first.component
    assert third.changed
    # The endpoint is the same, and what it starts is the new version.
    assert len(list(place.client.batch_endpoints.list())) == 1
    assert place.client.batch_endpoints.get(ENDPOINT).defaults.deployment_name == "main"


@pytest.mark.slow
def test_another_deployment_becomes_the_default(place: Place, project: Path) -> None:
    publish(place, project)
    said: list[str] = []
    assert publish(place, project, said=said, deployment="blue").changed
    assert said[-1] == f"blue is the default deployment of {ENDPOINT}"
    assert {item.name for item in place.client.batch_deployments.list(ENDPOINT)} == {"main", "blue"}


@pytest.mark.slow
def test_trigger_starts_the_job_with_its_inputs(place: Place, project: Path) -> None:
    publish(place, project)
    inputs = {"images": str(project / "images"), "word": "7", "times": "3", "share": "0.5", "loud": "true"}
    lines: list[str] = []
    job = trigger(place, inputs, wait=True, lines=lines)
    assert job.status == "Completed"
    assert job.tags["trigger"] == "test"
    assert job.name.startswith(f"{ENDPOINT}-")
    assert "[count] this is count" in lines
    sent = place.loopback.jobs.find(job.name).resource.properties["inputs"]
    values = {name: str(sent[name]["value"]).lower() for name in ("word", "times", "share", "loud")}
    assert values == {"word": "7", "times": "3", "share": "0.5", "loud": "true"}
    assert sent["images"]["uri"].startswith("azureml://datastores/workspaceblobstore/")
    found = azure_jobs.download(place.client, job.name, ["note"], project / "out")
    assert found["note"].is_file()


@pytest.mark.slow
def test_trigger_does_not_wait_unless_asked(place: Place, project: Path) -> None:
    publish(place, project)
    held = place.loopback.executor = Rehearsal(held=True)
    job = trigger(place, {"images": str(project / "images")})
    assert not job.is_final
    held.release()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": "x"}, "the pipeline has no input 'image'\n  -> did you mean 'images'"),
        ({"times": "many"}, "input 'times': 'many' is not of type integer"),
        ({"times": "true"}, "input 'times': 'true' is not of type integer"),
        ({"loud": "1"}, "input 'loud': '1' is not of type boolean"),
        ({"images": "./nowhere"}, "data ./nowhere does not exist"),
        ({}, "needs images"),
    ],
)
def test_wrong_inputs_start_nothing(place: Place, project: Path, inputs: dict[str, str], message: str) -> None:
    publish(place, project)
    with pytest.raises((AzureError, PipelineError), match=message):
        trigger(place, inputs)
    assert azure_jobs.list_jobs(place.client) == []


def test_what_is_missing_or_wrong_is_named(place: Place, project: Path, faults: Faults) -> None:
    missing = rf"endpoint '{ENDPOINT}' was not found.*HTTP 404.*\n  -> mlops pipeline publish --help"
    with pytest.raises(AzureError, match=missing):
        trigger(place, {})
    with pytest.raises(PipelineError, match="the file defines a pipelineJob"):
        published_pipelines.publish(project / "pipeline.yml", ENDPOINT, "main", place.settings, client=place.client)
    for name in ("no", "1abc", "a_b", "a" * 33):
        with pytest.raises(AzureError, match=f"{name!r} cannot be the name of an endpoint"):
            published_pipelines.publish(project / "published.yml", name, "main", place.settings, client=place.client)
    assert place.count("batchEndpoints", "PUT") == 0
    faults.fail("deployments", status=409, code="Conflict", method="PUT", retry_after=None)
    with pytest.raises(AzureError, match=rf"deployment 'main' of endpoint '{ENDPOINT}'.*HTTP 409"):
        publish(place, project)
    # What was made stays, and the next call goes on from there.
    assert publish(place, project).changed


@pytest.mark.slow
def test_publish_outlives_throttling_and_lost_connections(place: Place, project: Path, faults: Faults) -> None:
    faults.throttle("batchEndpoints", times=2)
    faults.fail("components", status=503)
    faults.drop("operations")
    assert publish(place, project).changed
    assert faults.pending == 0


@pytest.mark.slow
def test_a_schedule_is_created_paused_resumed_and_deleted(place: Place, project: Path) -> None:
    made = create(place, project)
    assert made.enabled
    assert made.name == "count-weekly"
    assert made.trigger == "every week on monday at 02:30, 14:30 (UTC)"
    assert create(place, project) == made
    assert schedules.list_schedules(place.client) == [made]
    paused = schedules.pause(place.client, made.name)
    assert not paused.enabled
    writes = place.count("/schedules/", "PUT")
    assert schedules.pause(place.client, made.name) == paused
    assert place.count("/schedules/", "PUT") == writes
    assert schedules.list_schedules(place.client) == [paused]
    assert schedules.resume(place.client, made.name).enabled
    schedules.delete(place.client, made.name)
    assert schedules.list_schedules(place.client) == []
    for call in (schedules.pause, schedules.resume, schedules.delete):
        with pytest.raises(
            AzureError, match=r"schedule 'count-weekly' was not found.*HTTP 404.*\n  -> see `mlops pipeline"
        ):
            call(place.client, made.name)


@pytest.mark.slow
def test_a_schedule_starts_its_job_with_the_right_compute_and_environment(place: Place, project: Path) -> None:
    cloud = place.loopback
    create(place, project)
    record = cloud.fire("count-weekly").wait()
    assert record.status == "Completed", record.message
    sent = record.resource.properties
    assert sent["inputs"]["word"]["value"] == "weekly"
    assert sent["settings"]["default_compute"].endswith("/computes/cpu-cluster")
    spec = cloud.store.get(sent["jobs"]["count"]["componentId"]).properties["componentSpec"]
    version = place.client.environments.get("vision-mlops-train", label="latest").version
    assert spec["environment"].endswith(f"/versions/{version}")
    # Resuming sends the schedule back as it was got: its job must still be the same.
    schedules.pause(place.client, "count-weekly")
    schedules.resume(place.client, "count-weekly")
    again = cloud.fire("count-weekly").wait().resource.properties
    assert {key: again[key] for key in ("inputs", "jobs")} == {key: sent[key] for key in ("inputs", "jobs")}


def test_a_wrong_schedule_sends_nothing(place: Place, project: Path) -> None:
    text = (project / "schedule.yml").read_text()
    (project / "schedule.yml").write_text(text + "trigge: now\n")
    with pytest.raises(PipelineError, match="unknown key 'trigge'"):
        create(place, project)
    assert place.count("/schedules/", "PUT") == 0
