"""Clusters and compute instances, made, changed, started, stopped and deleted by the real SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from testing.support.rehearsal import Rehearsal
from testing.support.submissions import submit

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.loopback import loopback_client

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

SIZE = "Standard_DS3_v2"


def instance(client: MLClient, name: str = "dev", **options: Any) -> Any:
    from azure.ai.ml.entities import ComputeInstance

    return client.compute.begin_create_or_update(ComputeInstance(name=name, size=SIZE, **options)).result()


def said(entities: Iterable[Any]) -> list[dict[str, Any]]:
    """What the service said: the SDK (1.35) keeps it under the service's names, beside attributes that stay empty."""
    return [entity.__dict__ for entity in entities]


def refused(call: Callable[[], Any], message: str, status: int = 400) -> None:
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match=message) as caught:
        call()
    assert caught.value.status_code == status


@pytest.mark.slow
def test_an_instance_goes_through_its_states(client: MLClient, cloud: EmulatedCloud) -> None:
    from azure.ai.ml.entities import ComputeInstance
    from azure.core.exceptions import ResourceNotFoundError

    cloud.operations.polls = 20  # enough for a look in between
    making = client.compute.begin_create_or_update(ComputeInstance(name="dev", size=SIZE))
    assert client.compute.get("dev").state == "Creating"
    made = making.result()
    assert (made.state, made.provisioning_state, made.size) == ("Running", "Succeeded", SIZE)
    assert made.last_operation["operationName"] == "Create"
    assert made.created_on
    steps = (
        (client.compute.begin_stop, "Stopping", "Stopped"),
        (client.compute.begin_start, "Starting", "Running"),
        (client.compute.begin_restart, "Restarting", "Running"),
    )
    for begin, passing, then in steps:
        poller = begin("dev")
        assert client.compute.get("dev").state == passing
        refused(lambda: client.compute.begin_stop("dev"), f"'dev' is {passing}", 409)
        poller.result()
        assert client.compute.get("dev").state == then
    gone = client.compute.begin_delete("dev")
    assert client.compute.get("dev").provisioning_state == "Deleting"
    gone.result()
    with pytest.raises(ResourceNotFoundError, match="'dev' was not found"):
        client.compute.get("dev")


def test_what_is_said_about_an_instance_is_kept(client: MLClient) -> None:
    from azure.ai.ml.entities import ComputeSchedules, ComputeStartStopSchedule, CronTrigger

    action: Any = "stop"
    stop = ComputeStartStopSchedule(trigger=CronTrigger(expression="0 18 * * *"), action=action)
    made = instance(
        client,
        description="of a test",
        tags={"team": "a"},
        idle_time_before_shutdown_minutes=30,
        schedules=ComputeSchedules(compute_start_stop=[stop]),
    )
    assert (made.description, made.tags) == ("of a test", {"team": "a"})
    found = client.compute.get("dev")
    assert found.idle_time_before_shutdown == "PT30M"
    assert found.idle_time_before_shutdown_minutes == 30
    assert [(item.action, item.trigger.expression) for item in found.schedules.compute_start_stop] == [
        ("stop", "0 18 * * *")
    ]
    assert found.ssh_public_access_enabled is False
    assert found.network_settings.public_ip_address == "127.0.0.1"
    assert [item.type for item in client.compute.list()] == ["amlcompute", "computeinstance"]


def test_a_cluster_is_made_scaled_and_listed(client: MLClient) -> None:
    from azure.ai.ml.entities import AmlCompute

    wanted = AmlCompute(name="train", size=SIZE, min_instances=1, max_instances=3, idle_time_before_scale_down=90)
    made = client.compute.begin_create_or_update(wanted).result()
    assert (made.min_instances, made.max_instances, made.idle_time_before_scale_down) == (1, 3, 90)
    assert (made.tier, made.provisioning_state) == ("dedicated", "Succeeded")
    (node,) = said(client.compute.list_nodes("train"))
    assert (node["nodeState"], node["port"], node["run_id"]) == ("idle", 50000, None)
    made.min_instances, made.max_instances, made.tags = 0, 2, {"a": "b"}
    changed = client.compute.begin_update(made).result()
    assert (changed.min_instances, changed.max_instances, changed.tags) == (0, 2, {"a": "b"})
    assert list(client.compute.list_nodes("train")) == []


def test_a_running_job_has_a_node(client: MLClient, cloud: EmulatedCloud, project: Path) -> None:
    cloud.executor = held = Rehearsal(held=True)
    cloud.add_compute("gpu-cluster", size=SIZE)
    job = submit(client, project / "command.yml")
    (node,) = said(client.compute.list_nodes("cpu-cluster"))
    assert (node["nodeState"], node["runId"]) == ("running", job.name)
    assert list(client.compute.list_nodes("gpu-cluster")) == []
    held.release()
    cloud.jobs.find(str(job.name)).wait()
    assert list(client.compute.list_nodes("cpu-cluster")) == []


@pytest.mark.slow
def test_a_job_goes_to_an_instance_that_runs_only(
    client: MLClient, cloud: EmulatedCloud, project: Path, rehearsal: Rehearsal
) -> None:
    instance(client)
    file = project / "command.yml"
    file.write_text(file.read_text().replace("cpu-cluster", "dev"))
    submit(client, file, "before")
    client.compute.begin_stop("dev").result()
    refused(lambda: submit(client, file, "meanwhile"), "The compute instance 'dev' is Stopped")
    client.compute.begin_start("dev").result()
    submit(client, file, "after")
    assert [cloud.jobs.find(name).wait().status for name in ("before", "after")] == ["Completed"] * 2


def test_an_instance_with_a_job_says_so(client: MLClient, cloud: EmulatedCloud, project: Path) -> None:
    cloud.executor = held = Rehearsal(held=True)
    instance(client)
    file = project / "command.yml"
    file.write_text(file.read_text().replace("cpu-cluster", "dev"))
    submit(client, file)
    assert client.compute.get("dev").state == "JobRunning"
    held.release()


@pytest.mark.parametrize(
    "name", ["ab", "a" * 25, "1dev", "dev-", "dev-2", "dev_a", "dév"], ids=lambda name: ascii(name)[:12]
)
def test_an_instance_needs_a_good_name(client: MLClient, name: str) -> None:
    refused(lambda: instance(client, name), "Reason: Invalid. Message: A name for an Azure ML Compute Instance must be")
    assert [item.name for item in client.compute.list()] == ["cpu-cluster"]


def test_a_cluster_may_end_in_a_number(client: MLClient) -> None:
    from azure.ai.ml.entities import AmlCompute

    assert client.compute.begin_create_or_update(AmlCompute(name="cpu-2", size=SIZE)).result().name == "cpu-2"
    refused(lambda: client.compute.begin_create_or_update(AmlCompute(name="c" * 33, size=SIZE)), "between 2 and 32")


def test_the_name_of_an_instance_is_unique_in_the_region(client: MLClient, cloud: EmulatedCloud) -> None:
    cloud.add_workspace("other")
    instance(client)
    refused(lambda: instance(loopback_client(cloud, workspace_name="other")), "AlreadyExists", 409)
    cloud.limits.taken.add("shared-name")
    refused(lambda: instance(client, "shared-name"), "shared-name is already in use", 409)


@pytest.mark.slow
def test_sizes_quota_and_nodes_are_checked(client: MLClient, cloud: EmulatedCloud) -> None:
    from azure.ai.ml.entities import AmlCompute

    def make(name: str, size: str = SIZE, **options: Any) -> Any:
        return client.compute.begin_create_or_update(AmlCompute(name=name, size=size, **options)).result()

    refused(lambda: make("a-b", "Standard_X9"), "Standard_X9 for property Cluster.Properties.VMSize is not a supported")
    refused(lambda: make("a-b", min_instances=3, max_instances=2), "minNodeCount 3 and maxNodeCount 2")
    refused(lambda: make("a-b", min_instances=7, max_instances=8), "vCPU quota of 24 .* 7 requested .* 28 vCPUs")
    make("a-b", min_instances=5, max_instances=8)
    instance(client)
    refused(lambda: instance(client, "more"), "24 are in use")
    client.compute.begin_stop("dev").result()
    refused(lambda: instance(client, "more"), "24 are in use")  # a stopped one keeps its quota
    make("empty", max_instances=8)  # it has no node yet
    make("spare", tier="low_priority", min_instances=5, max_instances=8)
    client.compute.begin_delete("dev").result()
    instance(client, "more")
    cloud.limits.family_cores = 3
    refused(lambda: make("never"), "cannot accommodate for at least 1 requested")


def test_usage_counts_what_is_there(client: MLClient) -> None:
    family, total = "Standard DSv2 Family Cluster Dedicated vCPUs", "Total Cluster Dedicated Regional vCPUs"

    def used() -> dict[str, tuple[int, int]]:
        rows = said(client.compute.list_usage())
        return {row["name"]["value"]: (row["currentValue"], row["limit"]) for row in rows}

    assert (used()[family], used()[total]) == ((0, 24), (0, 96))
    instance(client)
    assert (used()[family], used()[total]) == ((4, 24), (4, 96))
    assert used()["Standard FSv2 Family Cluster Dedicated vCPUs"] == (0, 24)


def test_sizes_are_listed(client: MLClient) -> None:
    found = {size["name"]: size for size in said(client.compute.list_sizes(compute_type="ComputeInstance"))}
    wanted = {"vCPUs": 4, "memoryGB": 14, "family": "standardDSv2Family", "gpus": 0}
    assert {key: found[SIZE][key] for key in wanted} == wanted
    assert found["Standard_NC4as_T4_v3"]["gpus"] == 1
    refused(lambda: list(client.compute.list_usage(location="northpole")), "only westeurope is emulated")


def test_a_compute_is_what_it_is(client: MLClient) -> None:
    from azure.ai.ml.entities import AmlCompute, ComputeInstance

    instance(client)
    refused(lambda: client.compute.begin_start("dev"), "only allowed when the instance dev is in 'stopped' state")
    refused(lambda: client.compute.begin_start("cpu-cluster"), "ComputeStart with computeType AmlCompute is not")
    refused(lambda: list(client.compute.list_nodes("dev")), "ComputeListNodes with computeType ComputeInstance is not")
    refused(lambda: client.compute.begin_create_or_update(AmlCompute(name="dev", size=SIZE)), "not AmlCompute")
    bigger = ComputeInstance(name="dev", size="Standard_DS4_v2")
    refused(lambda: client.compute.begin_create_or_update(bigger), "vmSize of the compute 'dev' cannot be changed")
    refused(lambda: client.compute.begin_delete("dev", action="Detach"), "was not attached")
    refused(lambda: instance(client, "slow", idle_time_before_shutdown_minutes=5), "not between 15 minutes and 3 days")
    refused(lambda: client.compute.begin_stop("nobody"), "'nobody' was not found", 404)


def test_an_instance_that_is_made_again_takes_new_settings(client: MLClient) -> None:
    instance(client)
    changed = instance(client, idle_time_before_shutdown_minutes=45, tags={"new": "yes"})
    assert (changed.idle_time_before_shutdown, changed.tags, changed.state) == ("PT45M", {"new": "yes"}, "Running")


def test_single_sign_on_can_be_switched(client: MLClient) -> None:
    instance(client)
    client.compute.enable_sso(name="dev", enable_sso=False)
    assert client.compute.get("dev").enable_sso is False


def test_scale_settings_are_changed_on_their_own(client: MLClient, cloud: EmulatedCloud) -> None:
    wanted = {"properties": {"properties": {"scaleSettings": {"maxNodeCount": 2, "minNodeCount": 1}}}}
    operations = client.compute._operation
    body: Any = BytesIO(json.dumps(wanted).encode())  # the model of this body cannot be made in SDK 1.35
    operations.begin_update(cloud.group, cloud.workspace, "cpu-cluster", body).result()
    assert client.compute.get("cpu-cluster").max_instances == 2
    assert len(list(client.compute.list_nodes("cpu-cluster"))) == 1
