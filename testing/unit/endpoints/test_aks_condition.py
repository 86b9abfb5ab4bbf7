"""How the target aks tells the state of an endpoint, and why it is not ready, from what a cluster says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError
from vision_mlops.endpoints.aks.endpoint_condition import Condition, condition_of, last_lines
from vision_mlops.endpoints.aks.manifests import Manifest
from vision_mlops.endpoints.contract import EndpointStatus

REVISION = "deployment.kubernetes.io/revision"
RUNNING = {"state": {"running": {}}, "restartCount": 0}


@dataclass
class Told:
    """What a cluster lists, and its logs: of the present container, and of the one before."""

    pods: list[Manifest] = field(default_factory=list)
    events: list[Manifest] | None = field(default_factory=list)
    logs: tuple[str, str] = ("", "")

    def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> list[Manifest]:
        if kind == "Event":
            if self.events is None:
                raise ClusterError("events is forbidden", status=403)
            return self.events
        if kind == "ReplicaSet":
            return [_replica_set("old", "1"), _replica_set("new", "2")]
        return self.pods

    def log(self, namespace: str, pod: str, lines: int, *, previous: bool) -> str:
        text = self.logs[previous]
        if not text:
            raise ClusterError("no such container", status=400)
        return text


def _replica_set(hashed: str, revision: str) -> Manifest:
    return {"metadata": {"labels": {"pod-template-hash": hashed}, "annotations": {REVISION: revision}}}


def pod(hashed: str = "new", *, ready: bool = False, container: Any = None, **status: Any) -> Manifest:
    statuses = [{"name": "server", "image": "cr.io/a:1", **container}] if container else []
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", [])]
    metadata = {"name": f"p-{hashed}", "namespace": "vision", "labels": {"pod-template-hash": hashed}}
    return {"metadata": metadata, "status": {"conditions": conditions, "containerStatuses": statuses, **status}}


def seen(told: Told, *, conditions: Any = (), replicas: int = 1, generation: int = 1, **status: int) -> Condition:
    counts = {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1, **status}
    metadata = {"name": "a", "namespace": "vision", "generation": generation, "annotations": {REVISION: "2"}}
    deployment = {
        "metadata": metadata, "spec": {"replicas": replicas}, "status": {**counts, "conditions": list(conditions)},
    }  # fmt: skip
    return condition_of(cast(KubernetesCluster, told), deployment)


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0, **more}


def test_ready_is_what_runs_the_present_version_alone() -> None:
    assert seen(Told([pod(ready=True)]), replicas=1, **{"updatedReplicas": 1}).state is EndpointStatus.CHANGING, (
        "an old pod runs"
    )
    metadata_seen = seen(Told([pod(ready=True)]), generation=2)
    assert (metadata_seen.state, metadata_seen.problem) == (
        EndpointStatus.CHANGING,
        "the cluster has not processed it yet",
    )
    assert seen(Told(), replicas=0).state is EndpointStatus.STOPPED


def test_ready() -> None:
    told = Told([pod(ready=True)])
    counts = {"updatedReplicas": 1, "availableReplicas": 1}
    deployment: Manifest = {
        "metadata": {"name": "a", "namespace": "vision", "generation": 1, "annotations": {REVISION: "2"}},
        "spec": {"replicas": 1}, "status": {"replicas": 1, "observedGeneration": 1, **counts},
    }  # fmt: skip
    found = condition_of(cast(KubernetesCluster, told), deployment)
    assert (found.state, found.ready, found.problem) == (EndpointStatus.READY, 1, "")
    deployment["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert condition_of(cast(KubernetesCluster, told), deployment).problem == "it is being deleted"


@pytest.mark.parametrize(
    ("container", "state", "text", "fix"),
    [
        (
            waiting("ErrImagePull", "not found"), EndpointStatus.CHANGING,
            "cr.io/a:1 cannot be pulled (ErrImagePull)", "--bake",
        ),
        (waiting("ImagePullBackOff", "401 Unauthorized"), EndpointStatus.FAILED, "ImagePullBackOff", "--attach-acr"),
        (waiting("InvalidImageName"), EndpointStatus.FAILED, "InvalidImageName", "REGISTRY/NAME:TAG"),
        (waiting("CreateContainerConfigError", "no secret"), EndpointStatus.FAILED, "no secret", "fix what it names"),
        (
            waiting("CrashLoopBackOff", restartCount=2, lastState={"terminated": {"exitCode": 1, "reason": "Error"}}),
            EndpointStatus.FAILED, "its server ended 2 times (CrashLoopBackOff) with exit code 1 (Error)", "see its log",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": {"exitCode": 1, "reason": "Error"}}),
            EndpointStatus.CHANGING, "its server ended 1 time with exit code 1", "see its log",
        ),
        (
            waiting("CrashLoopBackOff", restartCount=3, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            EndpointStatus.FAILED, "ran out of memory 3 times", "--memory",
        ),
        (RUNNING, EndpointStatus.CHANGING, "its server runs but is not ready", "fails verification"),
    ],
    ids=["missing", "refused", "name", "config", "crash", "first-crash", "memory", "not-ready"],
)  # fmt: skip
def test_containers(container: dict[str, Any], state: EndpointStatus, text: str, fix: str) -> None:
    found = seen(Told([pod(container=container), pod("old", ready=True)]))
    assert found.cause is not None
    assert (found.state, text in found.problem, fix in found.cause.hint) == (state, True, True), found
    assert [item["metadata"]["name"] for item in found.pods] == ["p-new"]


def test_a_probe_that_fails_is_told_by_the_last_event() -> None:
    events = [
        {"reason": "Unhealthy", "lastTimestamp": "2026-01-01T00:00:02Z", "message": "statuscode: 503"},
        {"reason": "Unhealthy", "lastTimestamp": "2026-01-01T00:00:01Z", "message": "connection refused"},
        {"reason": "Pulled", "lastTimestamp": "2026-01-01T00:00:03Z", "message": "pulled"},
    ]
    assert seen(Told([pod(container=RUNNING)], events)).problem.endswith("not ready: statuscode: 503")
    assert seen(Told([pod(container=RUNNING)], None)).problem.endswith("is not ready"), (
        "without the right to see events"
    )


def test_no_node_and_no_quota() -> None:
    lacks = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient memory."}
    found = seen(Told([pod(conditions=[lacks])]))
    assert found.cause is not None
    assert (found.state, "use less with --memory" in found.cause.hint) == (EndpointStatus.CHANGING, True), (
        "nodes may come"
    )
    stuck = {"type": "Progressing", "status": "False", "message": "has timed out progressing"}
    assert seen(Told([pod(conditions=[lacks])]), conditions=[stuck]).state is EndpointStatus.FAILED
    assert seen(Told(), conditions=[stuck]).problem == "has timed out progressing"
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "a" is forbidden: exceeded quota: team'}
    found = seen(Told(), conditions=[failure])
    assert found.cause is not None
    assert (found.state, "ResourceQuota" in found.cause.hint) == (EndpointStatus.FAILED, True)


def test_the_log_of_a_container_that_is_gone_is_that_of_the_one_before() -> None:
    crashed = pod(container=waiting("CrashLoopBackOff", restartCount=2))
    assert last_lines(cast(KubernetesCluster, Told(logs=("now\n", "before\n"))), crashed, 5) == "before"
    assert last_lines(cast(KubernetesCluster, Told(logs=("now\n", ""))), crashed, 5) == "now"
    again = pod(container={**RUNNING, "restartCount": 1})
    assert last_lines(cast(KubernetesCluster, Told(logs=("", "before\n"))), again, 5) == "before"
    assert last_lines(cast(KubernetesCluster, Told()), pod(), 5) == ""
