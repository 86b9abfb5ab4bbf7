"""What is in the workspace itself: schedules, published pipelines, clusters, and with consent models and data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.made_tags import is_made, workload_of
from vision_mlops.core.text import counted
from vision_mlops.jobs.azureml import data_assets, schedules
from vision_mlops.jobs.azureml.azure_records import text_of
from vision_mlops.registry.azureml.azureml_registry import AzureRegistry
from vision_mlops.teardown import prices
from vision_mlops.teardown.made_things import FREE, MadeThing, Search

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def schedules_of(client: MLClient, search: Search) -> list[MadeThing]:
    """Schedules that this package made. Raises AzureError."""
    with azure_errors("schedules"), quiet():
        from azure.ai.ml.constants import ListViewType

        # The SDK's own list of schedules' views says All, as this one does.
        found = [item for item in client.schedules.list(list_view_type=ListViewType.ALL) if is_made(item.tags)]
    return [
        MadeThing(
            "schedule",
            str(item.name),
            "starts a job by the clock",
            _workloads(item),
            FREE,
            partial(schedules.delete, client, str(item.name)),
        )
        for item in found
    ]


def pipelines_of(client: MLClient, search: Search) -> list[MadeThing]:
    """Published pipelines that this package made. Raises AzureError."""
    with azure_errors("published pipelines"), quiet():
        found = [item for item in client.batch_endpoints.list() if is_made(item.tags)]

    def remove(name: str) -> None:
        with azure_errors(f"published pipeline {name!r}"), quiet():
            client.batch_endpoints.begin_delete(name).result()

    return [
        MadeThing(
            "pipeline",
            str(item.name),
            "a pipeline behind a batch endpoint",
            _workloads(item),
            FREE,
            partial(remove, str(item.name)),
        )
        for item in found
    ]


def clusters_of(client: MLClient, search: Search) -> list[MadeThing]:
    """Compute clusters that this package made. Workloads share them. Raises AzureError."""
    with azure_errors("compute clusters"), quiet():
        found = [item for item in client.compute.list(compute_type="amlcompute") if is_made(item.tags)]

    def remove(name: str) -> None:
        with azure_errors(f"compute cluster {name!r}"), quiet():
            client.compute.begin_delete(name).result()

    return [
        MadeThing(
            "cluster",
            str(item.name),
            f"{item.size}, {item.min_instances} to {counted(int(item.max_instances or 0), 'node')}",
            _workloads(item),
            prices.of_machines(str(item.size), int(item.min_instances or 0)),
            partial(remove, str(item.name)),
            idle="" if not item.min_instances else f"{counted(int(item.min_instances), 'node')} even without a job",
        )
        for item in found
    ]


def idle_instances(client: MLClient) -> list[str]:
    """Compute instances that run and never stop by themselves: named only, as they are a person's. Raises AzureError."""
    with azure_errors("compute instances"), quiet():
        found = list(client.compute.list(compute_type="computeinstance"))
    told = []
    for item in found:
        if text_of(item.state).lower() != "running" or getattr(item, "idle_time_before_shutdown", None):
            continue
        usd = prices.of_machines(str(item.size))
        cost = "price not known" if usd is None else f"about {usd:,.0f} USD a month"
        told.append(
            f"compute instance {item.name} ({item.size}, {cost}) runs and has no idle shutdown:"
            f" az ml compute stop --name {item.name}"
        )
    return told


def models_of(client: MLClient, search: Search, place: str) -> list[MadeThing]:
    """Models of the workspace, which are archived: what they hold stays in storage. Raises MlopsError."""
    registry = AzureRegistry(lambda: client, place)

    def archive(name: str) -> None:
        with azure_errors(f"model {name!r}"), quiet():
            client.models.archive(name)

    names = [name for name in registry.models() if not search.workload or name == search.workload]
    return [
        MadeThing("model", name, "is archived; its files stay", frozenset({name}), FREE, partial(archive, name))
        for name in names
    ]


def data_of(client: MLClient, search: Search) -> list[MadeThing]:
    """Data assets of the workspace, which are archived: the blobs stay. Raises AzureError."""

    def archive(name: str) -> None:
        with azure_errors(f"data asset {name!r}"), quiet():
            client.data.archive(name)

    names = [item.name for item in data_assets.list_newest(client)]
    return [
        MadeThing("data", name, "is archived; its blobs stay", frozenset({name}), FREE, partial(archive, name))
        for name in names
    ]


def _workloads(entity: Any) -> frozenset[str]:
    named = workload_of(entity.tags)
    return frozenset({named} if named else ())
