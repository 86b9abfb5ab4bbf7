"""What pages show of a workspace: its jobs, models, endpoints and computes, as plain rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azureml_emulator.jobs.emulated_job import EmulatedJob
from azureml_emulator.jobs.reported_states import ReportedJob, ReportedStep
from azureml_emulator.pages.job_graph import waits_for
from azureml_emulator.resources.rest_resources import ResourceStore, RestResource
from azureml_emulator.rest.rest_calls import Json

TAIL_BYTES = 64 * 1024
Row = dict[str, Any]


@dataclass(frozen=True)
class LogEnd:
    """The end of a log. ``cut`` says whether there is more before it."""

    name: str
    text: str
    size: int
    cut: bool


def job_row(record: EmulatedJob) -> Row:
    """A job in a list."""
    properties = record.resource.properties
    return {
        "name": record.name,
        "display_name": properties.get("displayName") or record.name,
        "experiment": properties.get("experimentName") or "",
        "kind": properties["jobType"],
        "status": record.status,
        "created": record.resource.created,
        "started": record.state.started,
        "ended": record.state.ended,
    }


def job_facts(record: EmulatedJob) -> Row:
    """A job on its own page: the job, its steps, and its outputs."""
    properties: Json = record.resource.properties
    waiting = waits_for(properties)
    steps = []
    for name in dict.fromkeys([*waiting, *record.state.steps]):
        state = record.state.steps.get(name, ReportedStep("NotStarted"))
        after = waiting.get(name, ())
        made = {output: item.uri for output, item in record.steps.get(name, {}).items()}
        steps.append({"name": name, "state": state, "after": after, "made": made, "has_log": bool(state.logs)})
    return {
        **job_row(record),
        "message": record.message or record.state.message,
        "tags": properties.get("tags") or {},
        "command": properties.get("command") or "",
        "steps": steps,
        "made": {name: item.uri for name, item in record.produced.items()},
        "best": record.state.best,
        "has_log": bool(record.state.logs),
    }


def log_tails(state: ReportedJob | ReportedStep) -> list[LogEnd]:
    """Return the ends of the logs of a job or a step."""
    return [_tail(name, path) for name, path in state.logs.items() if path.is_file()]


def models(store: ResourceStore, workspace: str) -> list[Row]:
    """Return the models of a workspace, each with its versions, newest first."""
    found: dict[str, list[RestResource]] = {}
    for item in store.below(f"{workspace}/models"):
        if "/versions/" in item.id:
            found.setdefault(item.id.split("/")[-3], []).append(item)
    return [{"name": name, "versions": [_model(item) for item in items[::-1]]} for name, items in sorted(found.items())]


def endpoints(store: ResourceStore, workspace: str) -> list[Row]:
    """Return the endpoints of a workspace, online ones first."""
    kinds = (("online", "onlineEndpoints"), ("batch", "batchEndpoints"))
    return [endpoint(store, kind, item) for kind, folder in kinds for item in store.children(f"{workspace}/{folder}")]


def endpoint(store: ResourceStore, kind: str, item: RestResource) -> Row:
    """Return an endpoint with its deployments, and the share of the traffic that each gets, in percent."""
    properties = item.properties
    traffic: Json = properties.get("traffic") or {}
    mirrored: Json = properties.get("mirrorTraffic") or {}
    first = (properties.get("defaults") or {}).get("deploymentName")
    deployments = []
    for made in store.children(f"{item.id}/deployments"):
        model = made.properties.get("model") or ""
        asset = str(model if isinstance(model, str) else model.get("assetId") or "")
        deployments.append(
            {
                "name": made.name,
                "state": made.properties.get("provisioningState") or "",
                "model": _reference(asset),
                "instance": made.properties.get("instanceType") or "",
                "count": (made.body.get("sku") or {}).get("capacity") or "",
                "share": int(traffic.get(made.name) or 0) if kind == "online" else 100 * (made.name == first),
                "mirror": int(mirrored.get(made.name) or 0),
            }
        )
    return {
        "name": item.name,
        "kind": kind,
        "state": properties.get("provisioningState") or "",
        "auth": properties.get("authMode") or "",
        "address": properties.get("scoringUri") or "",
        "deployments": deployments,
        "tags": item.body.get("tags") or {},
    }


def compute_row(described: Json) -> Row:
    """Return a cluster, an instance or another compute, from the description of the service."""
    properties: Json = described["properties"]
    own: Json = properties.get("properties") or {}
    scale: Json = own.get("scaleSettings") or {}
    provisioning = properties.get("provisioningState") or ""
    state = own.get("state") or own.get("allocationState") or provisioning
    return {
        "name": described["name"],
        "kind": properties["computeType"],
        "size": own.get("vmSize") or "",
        "state": state if provisioning == "Succeeded" else provisioning,
        "nodes": f"{own.get('currentNodeCount', 0)} of {scale['maxNodeCount']}" if scale else "",
        "idle": own.get("idleTimeBeforeShutdown") or scale.get("nodeIdleTimeBeforeScaleDown") or "",
        "docker": next((str(item["endpointUri"]) for item in own.get("applications") or []), ""),
    }


def _model(version: RestResource) -> Row:
    properties = version.properties
    return {
        "version": version.name,
        "type": properties.get("modelType") or "",
        "created": version.created,
        "job": properties.get("jobName") or "",
        "archived": bool(properties.get("isArchived")),
        "tags": properties.get("tags") or {},
    }


def _reference(asset: str) -> str:
    """Return ``NAME:VERSION`` for an id of a model."""
    parts = asset.split("/")
    return f"{parts[-3]}:{parts[-1]}" if len(parts) > 3 and parts[-2] == "versions" else asset


def _tail(name: str, path: Path) -> LogEnd:
    total = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, total - TAIL_BYTES))
        content = file.read(TAIL_BYTES)
    cut = total > TAIL_BYTES
    if cut:  # begin with a complete line, if there is one
        content = content.split(b"\n", 1)[-1]
    return LogEnd(name, content.decode(errors="replace"), total, cut)
