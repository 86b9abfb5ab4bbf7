"""The state of an endpoint in a cluster, and why it is not ready, from conditions, pods and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vision_mlops.core.text import counted
from vision_mlops.endpoints.aks.cluster import KubernetesCluster
from vision_mlops.endpoints.aks.cluster_errors import ClusterError, refusal
from vision_mlops.endpoints.aks.manifests import DEPLOYMENT, INSTANCE, Manifest, selector_of
from vision_mlops.endpoints.contract import EndpointStatus

_REVISION = "deployment.kubernetes.io/revision"
_RESTARTS = 2
"""How often a server is restarted before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a deployment is not ready. ``final`` means that waiting does not help; ``pod`` has a log about it."""

    text: str
    hint: str = ""
    final: bool = False
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of a deployment. ``pods`` are those of its current version, newest first."""

    state: EndpointStatus
    ready: int
    cause: Cause | None = None
    pods: Sequence[Manifest] = field(default_factory=tuple)

    @property
    def problem(self) -> str:
        """Why it is not ready; empty if it is."""
        return self.cause.text if self.cause else ""


def condition_of(cluster: KubernetesCluster, deployment: Manifest) -> Condition:
    """Return the current state of a Deployment. Raises ClusterError."""
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    pods = current_pods(cluster, deployment)
    wanted, available = int(spec.get("replicas", 1)), int(status.get("availableReplicas") or 0)
    updated, total = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    seen = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    ready = sum(_is_ready(pod) for pod in pods)
    if metadata.get("deletionTimestamp"):
        return Condition(EndpointStatus.CHANGING, ready, Cause("it is being deleted"), pods)
    if wanted == 0:
        return Condition(EndpointStatus.STOPPED, 0, Cause("it is scaled to no pods"), pods)
    if seen and updated >= wanted and total == updated and available >= wanted:
        return Condition(EndpointStatus.READY, ready, None, pods)
    if not seen:
        return Condition(EndpointStatus.CHANGING, ready, Cause("the cluster has not processed it yet"), pods)
    cause = _of_conditions(deployment) or _of_pods(cluster, pods)
    if late := _too_late(deployment):
        cause = replace(cause, final=True) if cause else Cause(late, "deploy it again", final=True)
    if cause is None:
        return Condition(EndpointStatus.CHANGING, ready, Cause(f"{ready} of {wanted} pods are ready"), pods)
    serves = ready > 0 or not cause.final
    return Condition(EndpointStatus.CHANGING if serves else EndpointStatus.FAILED, ready, cause, pods)


def current_pods(cluster: KubernetesCluster, deployment: Manifest) -> list[Manifest]:
    """Return the pods of the current version of a Deployment that are not ending, newest first. Raises ClusterError."""
    metadata = deployment["metadata"]
    own, namespace = metadata.get("labels") or {}, metadata["namespace"]
    labels = selector_of(own.get(INSTANCE, metadata["name"]), own.get(DEPLOYMENT, ""))
    revision = (metadata.get("annotations") or {}).get(_REVISION)
    hashes = {
        item["metadata"]["labels"].get("pod-template-hash")
        for item in cluster.list("ReplicaSet", namespace, labels)
        if (item["metadata"].get("annotations") or {}).get(_REVISION) == revision
    }
    pods = [
        pod
        for pod in cluster.list("Pod", namespace, labels)
        if pod["metadata"]["labels"].get("pod-template-hash") in hashes and not pod["metadata"].get("deletionTimestamp")
    ]
    return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)


def last_lines(cluster: KubernetesCluster, pod: Manifest, lines: int) -> str:
    """Return the last lines of the server of a pod; those of its predecessor if it has not written any yet."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    text = _try_log(cluster, namespace, name, lines, previous=False)
    container = _container(pod)
    if container.get("restartCount") and "waiting" in (container.get("state") or {}):
        text = _try_log(cluster, namespace, name, lines, previous=True) or text
    elif not text and container.get("restartCount"):
        text = _try_log(cluster, namespace, name, lines, previous=True)
    return text.rstrip("\n")


def _try_log(cluster: KubernetesCluster, namespace: str, name: str, lines: int, *, previous: bool) -> str:
    try:
        return cluster.log(namespace, name, lines, previous=previous)
    except ClusterError as error:
        if error.status == 400 or error.status == 404:  # the container has not started, or has no predecessor
            return ""
        raise


def _of_conditions(deployment: Manifest) -> Cause | None:
    found = _condition(deployment, "ReplicaFailure", "True")
    if found is None:
        return None
    message = str(found.get("message"))
    text, hint = refusal(message) or (message, "fix what it names, and deploy again")
    return Cause(f"its pods cannot be created: {text}", hint, final=True)


def _too_late(deployment: Manifest) -> str:
    """Return the message of the cluster if the time for a rollout is over; else empty."""
    found = _condition(deployment, "Progressing", "False")
    return str(found.get("message") or found.get("reason")) if found else ""


def _of_pods(cluster: KubernetesCluster, pods: Sequence[Manifest]) -> Cause | None:
    """Return the worst problem of any of the pods."""
    causes = [cause for pod in pods if (cause := _of_pod(cluster, pod)) is not None]
    return max(causes, key=lambda cause: cause.final, default=None)


def _of_pod(cluster: KubernetesCluster, pod: Manifest) -> Cause | None:
    """Return the first problem that keeps a pod from being ready, in the order of its life; None if it only needs time."""
    if _is_ready(pod):
        return None
    return next((cause for look in _CAUSES if (cause := look(cluster, pod)) is not None), None)


def _unscheduled(_: KubernetesCluster, pod: Manifest) -> Cause | None:
    refused = _condition(pod, "PodScheduled", "False")
    return _unschedulable(str(refused.get("message"))) if refused else None


def _evicted(_: KubernetesCluster, pod: Manifest) -> Cause | None:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if status.get("reason") != "Evicted":
        return None
    return Cause(f"pod {name} was evicted: {status.get('message')}", "increase --memory", pod=name)


def _not_started(_: KubernetesCluster, pod: Manifest) -> Cause | None:
    """Return the cause if the container waits for its image, or cannot be created."""
    reason, message = _waiting(pod)
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
        return _image(str(_container(pod).get("image") or ""), reason, message)
    if reason not in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return None
    text = f"its container cannot be started: {reason}: {message}"
    return Cause(text, "fix what it names, and deploy again", True, pod["metadata"]["name"])


def _ended(cluster: KubernetesCluster, pod: Manifest) -> Cause | None:
    container = _container(pod)
    ended = (container.get("lastState") or {}).get("terminated") or (container.get("state") or {}).get("terminated")
    restarts, looping = int(container.get("restartCount") or 0), _waiting(pod)[0] == "CrashLoopBackOff"
    if not ended or not (looping or restarts):
        return None
    return _crash(cluster, pod, ended, restarts, final=looping and restarts >= _RESTARTS)


def _unready(cluster: KubernetesCluster, pod: Manifest) -> Cause | None:
    if "running" not in (_container(pod).get("state") or {}):
        return None
    probe = _probe(cluster, pod)
    text = "its server runs but is not ready" + (f": {probe}" if probe else "")
    return Cause(
        text,
        "its log says why; a bundle that fails verification never becomes ready",
        pod=pod["metadata"]["name"],
    )


_CAUSES = (_unscheduled, _evicted, _not_started, _ended, _unready)


def _unschedulable(message: str) -> Cause:
    lacks = [what for what in ("cpu", "memory") if f"Insufficient {what}" in message]
    hint = f"use less with --{' or --'.join(lacks)}, or add nodes" if lacks else "add nodes, or check their taints"
    return Cause(f"no node accepts its pod: {message}", f"{hint}; a cluster with an autoscaler needs some minutes")


def _image(image: str, reason: str, message: str) -> Cause:
    """Return the cause for an image that is refused or missing, by the message of the kubelet."""
    short = message.removeprefix("Back-off pulling image ").strip() or reason
    refused = any(word in message.lower() for word in ("401", "403", "unauthorized", "forbidden", "denied"))
    if reason == "InvalidImageName":
        hint = "give --image as REGISTRY/NAME:TAG"
    elif refused:
        hint = "let the cluster pull: az aks update --name CLUSTER --resource-group GROUP --attach-acr REGISTRY"
    else:
        hint = "build it with `mlops deploy --to docker --bake`, and push it; or name another with --image"
    return Cause(f"its image {image} cannot be pulled ({reason}): {short}", hint, final=reason != "ErrImagePull")


def _crash(cluster: KubernetesCluster, pod: Manifest, ended: Manifest, restarts: int, *, final: bool) -> Cause:
    name, code, reason = pod["metadata"]["name"], ended.get("exitCode"), str(ended.get("reason") or "Error")
    times = counted(max(1, restarts), "time") + (" (CrashLoopBackOff)" if final else "")
    if reason == "OOMKilled":
        return Cause(f"its server ran out of memory {times}", "increase --memory, or reduce --workers", final, name)
    text = f"its server ended {times} with exit code {code} ({reason})"
    if probe := _probe(cluster, pod):
        return Cause(f"{text}; {probe}", "see its log; increase --cpu if it starts slowly", final, name)
    return Cause(text, "see its log", final, name)


def _probe(cluster: KubernetesCluster, pod: Manifest) -> str:
    """Return the last failed probe in the events."""
    metadata = pod["metadata"]
    try:
        events = cluster.list("Event", metadata["namespace"], fields=f"involvedObject.name={metadata['name']}")
    except ClusterError as error:
        if error.status == 403:  # events only improve the message
            return ""
        raise
    failed = [item for item in events if item.get("reason") == "Unhealthy"]
    last = max(failed, key=lambda item: str(item.get("lastTimestamp") or ""), default={})
    return str(last.get("message") or "")


def _container(pod: Manifest) -> dict[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((item for item in statuses if item.get("name") == "server"), {})


def _waiting(pod: Manifest) -> tuple[str, str]:
    """Reason and message of a container that waits to be started; both are empty if it does not wait."""
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    return str(waiting.get("reason") or ""), str(waiting.get("message") or "")


def _is_ready(pod: Manifest) -> bool:
    return _condition(pod, "Ready", "True") is not None


def _condition(owner: Manifest, type: str, status: str) -> Manifest | None:
    """Return the condition of an object that has a type and a status; None if it has none."""
    conditions = (owner.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if (item["type"], item["status"]) == (type, status)), None)
