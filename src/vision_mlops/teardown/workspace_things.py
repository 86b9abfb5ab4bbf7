"""Things in the workspace itself: schedules, published pipelines, clusters, and, with consent, models and data."""

from __future__ import annotations

from collections.abc import Callable
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
    """Return schedules that this package created. Raises AzureError."""
    with azure_errors("schedules"), quiet():
        from azure.ai.ml.constants import ListViewType

        # The SDK's own list of schedules' views says All, as this one does.
        found = [item for item in client.schedules.list(list_view_type=ListViewType.ALL) if is_made(item.tags)]
    return [_thing("schedule", item, "starts jobs on a schedule", partial(schedules.delete, client)) for item in found]


def pipelines_of(client: MLClient) -> list[MadeThing]:
    """Published pipelines that this package created. Raises AzureError."""
    with azure_errors("published pipelines"), quiet():
        found = [item for item in client.batch_endpoints.list() if is_made(item.tags)]
    delete = partial(_carried_out, "published pipeline", client.batch_endpoints.begin_delete)
    return [_thing("pipeline", item, "a pipeline behind a batch endpoint", delete) for item in found]


def clusters_of(client: MLClient) -> list[MadeThing]:
    """Return compute clusters that this package created. Workloads share them. Raises AzureError."""
    with azure_errors("compute clusters"), quiet():
        found = [item for item in client.compute.list(compute_type="amlcompute") if is_made(item.tags)]
    made = []
    for item in found:
        detail = f"{item.size}, {item.min_instances} to {counted(int(item.max_instances or 0), 'node')}"
        usd = prices.of_machines(str(item.size), int(item.min_instances or 0))
        idle = f"{counted(int(item.min_instances), 'node')} even without a job" if item.min_instances else ""
        delete = partial(_carried_out, "compute cluster", client.compute.begin_delete)
        made.append(_thing("cluster", item, detail, delete, usd, idle))
    return made


def idle_instances(client: MLClient) -> list[str]:
    """Return compute instances that run and never stop by themselves. They belong to people, so they are not removed."""
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
    """Return models of the workspace. They are archived: their files stay in storage. Raises MlopsError."""
    names = [
        name for name in AzureRegistry(lambda: client, place).models() if not search.workload or name == search.workload
    ]
    archive = partial(_carried_out, "model", client.models.archive)
    return [_archived("model", name, "is archived; its files stay", archive) for name in names]


def data_of(client: MLClient) -> list[MadeThing]:
    """Return data assets of the workspace. They are archived: the blobs stay. Raises AzureError."""
    archive = partial(_carried_out, "data asset", client.data.archive)
    names = [item.name for item in data_assets.list_newest(client)]
    return [_archived("data", name, "is archived; its blobs stay", archive) for name in names]


def _thing(
    kind: str, entity: Any, detail: str, remove: Callable[[str], None], usd: float | None = FREE, idle: str = ""
) -> MadeThing:
    """Return a thing of the SDK's entity, whose workload is in its tags."""
    workload, name = workload_of(entity.tags), str(entity.name)
    return MadeThing(kind, name, detail, frozenset({workload} if workload else ()), usd, partial(remove, name), idle)


def _archived(kind: str, name: str, detail: str, archive: Callable[[str], None]) -> MadeThing:
    return MadeThing(kind, name, detail, frozenset({name}), FREE, partial(archive, name))


def _carried_out(what: str, begin: Callable[[str], Any], name: str) -> None:
    """Remove something by a call of the SDK, and wait until that is done if it returns a poller. Raises AzureError."""
    with azure_errors(f"{what} {name!r}"), quiet():
        if (poller := begin(name)) is not None:
            poller.result()
