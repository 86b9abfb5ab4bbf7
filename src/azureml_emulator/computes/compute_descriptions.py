"""What the service adds to the description of a compute that a client sends."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from azureml_emulator.computes.compute_checks import CLUSTER, INSTANCE
from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.resources.arm_paths import LOCATION
from azureml_emulator.resources.rest_resources import RestResource, now
from azureml_emulator.rest.rest_calls import Json

TYPE = "Microsoft.MachineLearningServices/workspaces/computes"
_LOOPBACK = "127.0.0.1"


def cluster(size: str, least: int = 0, most: int = 4) -> Json:
    """Return a cluster that already exists."""
    scale = {"minNodeCount": least, "maxNodeCount": most, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    return completed(
        {
            "location": LOCATION,
            "properties": {"computeType": CLUSTER, "properties": {"vmSize": size, "scaleSettings": scale}},
        },
        "Succeeded",
    )


def completed(body: Json, state: str) -> Json:
    """Return a compute as the service keeps it.

    Args:
        body: Description that the client sent.
        state: State of its provisioning.
    """
    properties: Json = {key: value for key, value in body["properties"].items() if value is not None}
    kind = properties["computeType"]
    location = body.get("location") or LOCATION
    own = {CLUSTER: _cluster_settings, INSTANCE: _instance_settings}.get(kind, dict)(properties.get("properties") or {})
    service = {
        "computeLocation": location,
        "provisioningState": state,
        "provisioningErrors": None,
        "resourceId": body["properties"].get("resourceId"),
        "isAttachedCompute": kind not in (CLUSTER, INSTANCE),
        "createdOn": now(),
        "modifiedOn": now(),
        "properties": own,
    }
    return {**body, "location": location, "properties": {"disableLocalAuth": True, **properties, **service}}


def described(compute: RestResource, runs: Sequence[str], services: Sequence[Json]) -> Json:
    """Return a compute as a response.

    Args:
        compute: Compute as it is kept.
        runs: Names of the jobs that run on it.
        services: What an instance offers, with its addresses.
    """
    body = compute.to_dict()
    settings: Json = body["properties"].get("properties") or {}
    if body["properties"]["computeType"] == CLUSTER:
        nodes, least = _node_count(settings, runs), (settings.get("scaleSettings") or {}).get("minNodeCount") or 0
        states = dict.fromkeys(("preparing", "running", "idle", "unusable", "leaving", "preempted"), 0)
        states["running"], states["idle"] = min(nodes, len(runs)), max(0, nodes - len(runs))
        settings["currentNodeCount"], settings["targetNodeCount"] = nodes, max(nodes, least)
        settings["nodeStateCounts"] = {f"{name}NodeCount": number for name, number in states.items()}
        (settings.get("userAccountCredentials") or {}).pop("adminUserPassword", None)
    elif body["properties"]["computeType"] == INSTANCE:
        settings["applications"] = list(services)
        if runs and settings["state"] == "Running":
            settings["state"] = "JobRunning"
    return {**body, "type": TYPE}


def nodes(compute: RestResource, runs: Sequence[str]) -> list[Json]:
    """Return the nodes of a cluster: one for each job that it has room for, and those that it always keeps."""
    settings: Json = compute.properties["properties"]
    found = []
    for number in range(_node_count(settings, runs)):
        busy = number < len(runs)
        node = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{compute.id}#{compute.number}/{number}")).replace("-", "")
        address: Json = {"privateIpAddress": _LOOPBACK, "publicIpAddress": _LOOPBACK, "port": 50000 + number}
        found.append({"nodeId": f"tvmps_{node}_d", **address, "nodeState": "running" if busy else "idle"})
        if busy:
            found[-1]["runId"] = runs[number]
    return found


def operated(name: str, status: str = "Succeeded") -> Json:
    """Return what an instance reports about the last operation on it."""
    return {
        "operationName": name,
        "operationTime": now(),
        "operationStatus": status,
        "operationTrigger": "User",
    }


def _node_count(settings: Json, runs: Sequence[str]) -> int:
    scale = settings.get("scaleSettings") or {}
    return min(int(scale.get("maxNodeCount") or 0), max(len(runs), int(scale.get("minNodeCount") or 0)))


def _cluster_settings(given: Json) -> Json:
    own: Json = {
        "osType": "Linux",
        "vmPriority": "Dedicated",
        "virtualMachineImage": None,
        "isolatedNetwork": False,
        "remoteLoginPortPublicAccess": "NotSpecified",
        "allocationState": "Steady",
        "allocationStateTransitionTime": now(),
        "enableNodePublicIp": True,
        "errors": None,
    }
    return {**own, **_said(given)}


def _instance_settings(given: Json) -> Json:
    own: Json = {
        "applicationSharingPolicy": "Shared",
        "computeInstanceAuthorizationType": "personal",
        "enableNodePublicIp": True,
        "osImageMetadata": {
            "currentImageVersion": "26.11.01",
            "latestImageVersion": "26.11.01",
            "isLatestOsImageVersion": True,
        },
        "connectivityEndpoints": {"publicIpAddress": _LOOPBACK, "privateIpAddress": _LOOPBACK},
        "createdBy": {"userName": "someone", "userOrgId": TENANT, "userId": TENANT},
        "errors": [],
        "versions": {"runtime": "1.0.0"},
        "state": "Creating",
        "lastOperation": operated("Create", "InProgress"),
    }
    found = {**own, **_said(given)}
    ssh = {"sshPublicAccess": "Disabled", "adminUserName": "azureuser", "sshPort": 50000}
    found["sshSettings"] = {**ssh, **_said(found.get("sshSettings") or {})}
    for schedule in (found.get("schedules") or {}).get("computeStartStop") or []:
        schedule.setdefault("id", str(uuid.uuid4()))
        schedule["provisioningStatus"] = "Completed"
    return found


def _said(given: Json) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}
