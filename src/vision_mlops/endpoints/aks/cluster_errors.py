"""Errors of a cluster, with what to do about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vision_mlops.core.errors import DeploymentError

GET_CREDENTIALS = "az aks get-credentials --resource-group GROUP --name CLUSTER"
SIGN_IN = f"sign in again: az login; {GET_CREDENTIALS}; kubelogin convert-kubeconfig --login azurecli"


class ClusterError(DeploymentError):
    """The cluster refuses, or cannot be reached. ``status`` is the HTTP status, 0 without a response."""

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


@contextmanager
def cluster_errors(what: str, *, secret: bool = False) -> Iterator[None]:
    """Turn errors of the client into ClusterError.

    Args:
        what: What is being done, for example ``applying Deployment textile``.
        secret: Whether what was sent must not appear in a message or a traceback.
    """
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        message, hint = explain(int(error.status or 0), _status(error.body), secret=secret)
        translated = ClusterError(f"{what}: {message}", hint, int(error.status or 0))
        raise translated from (None if secret else error)
    except (HTTPError, OSError) as error:
        reason = str(getattr(error, "reason", None) or error)
        reason = re.sub(r"<[^>]*>:? ?|\(Caused by |\)$", "", reason).strip()
        raise ClusterError(f"{what}: the cluster cannot be reached: {reason}", _unreached(reason)) from (
            None if secret else error
        )


def explain(status: int, content: Mapping[str, Any], *, secret: bool = False) -> tuple[str, str]:
    """Return the message and hint for a response of the API.

    Args:
        status: HTTP status.
        content: The ``Status`` object of the response.
        secret: Whether to omit what may repeat the content of the request.
    """
    message = str(content.get("message") or f"HTTP {status}")
    if status == 401:
        return "the cluster does not accept the sign-in", SIGN_IN
    if status == 409 and (managers := _managers(content)):
        return (
            f"other tools own some of its fields: {managers}",
            "let one tool manage the endpoint: remove these fields from the other one, or use --render with it",
        )
    if cause := refusal(message):
        return cause
    if status == 403:
        return message, (
            "ask for a role in the namespace that allows this, such as Azure Kubernetes Service RBAC Writer; "
            "or choose another namespace with --namespace"
        )
    if status == 422 or status == 400:
        return (
            "the API refuses the object" if secret else message
        ), "check that the version of Kubernetes is supported"
    if status == 409:
        return message, "it was changed at the same time: try again"
    if status == 429 or status >= 500:
        return message, "the cluster is busy or has a fault: try again"
    return message, "kubectl get events shows more"


def refusal(message: str) -> tuple[str, str] | None:
    """Return the message and hint if a quota, a webhook or a policy refuses an object or its pods; else None."""
    if "exceeded quota" in message:
        return message, "raise the ResourceQuota of the namespace, or use less: --cpu, --memory, --instances"
    if "LimitRange" in message or "maximum cpu usage" in message or "maximum memory usage" in message:
        return message, "the namespace's LimitRange limits containers: give another --cpu or --memory"
    if "admission webhook" in message or "ValidatingAdmissionPolicy" in message:
        return (
            message,
            "a policy of the cluster refuses this: change what it names, or ask the administrator of the cluster",
        )
    if "violates PodSecurity" in message:
        return message, "something adds what the namespace does not allow, such as an injected sidecar"
    return None


def _status(body: Any) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (TypeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _managers(content: Mapping[str, Any]) -> str:
    causes = (content.get("details") or {}).get("causes") or []
    found: dict[str, list[str]] = {}
    for cause in causes:
        if cause.get("reason") == "FieldManagerConflict":
            match = re.search(r'conflict with "([^"]*)"', str(cause.get("message")))
            found.setdefault(match[1] if match else "another", []).append(str(cause.get("field")))
    return "; ".join(f"{manager} has {', '.join(names[:4])}" for manager, names in found.items())


def _unreached(reason: str) -> str:
    if "certificate" in reason.lower():
        return "the certificate does not match the kubeconfig: az aks get-credentials --overwrite-existing"
    return (
        "check that the cluster runs (az aks show), and that this machine reaches it: a private cluster needs its network; "
        "MLOPS_AKS_CONTEXT picks another context of the kubeconfig"
    )
