"""The one place where exceptions of the Azure packages become :class:`AzureError`: what failed, why, and how to fix it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from vision_mlops.azure.proxy_check import silent_proxy
from vision_mlops.core.errors import AzureError, MlopsError, missing_extra
from vision_mlops.core.retry_after import wait_asked_for

T = TypeVar("T")

SIGN_IN = (
    "run `az login`, or export AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; in a pipeline use workload"
    " identity federation"
)
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LENGTH = 600
# What to do, by the first pattern that matches the code or message of the error.
_FIXES = (
    (
        r"keybasedauthenticationnotpermitted|key based authentication is not permitted",
        "the workspace's storage account accepts no keys: let its datastores use the identity (az ml workspace update"
        " --system-datastores-auth-mode identity), and ask for the role Storage Blob Data Contributor on the account",
    ),
    (
        r"without additional quota",
        "ask for quota of App Service in this region (portal: Quotas), or choose another --sku or AZURE_LOCATION",
    ),
    (
        r"website with given name|hostname '[^']*' already exists",
        "the names of web apps are unique in Azure: choose another name",
    ),
    (r"number of slots allowed", "plans have slots from the Standard tier up: choose --sku S1 or P0v3"),
    (
        r"authorization to perform action 'microsoft\.web/",
        "ask for the roles Website Contributor and Web Plan Contributor on the resource group",
    ),
    (
        r"containergroupquotareached|containerinstance/containergroups' container group quota",
        "delete unused container groups, ask for quota of Azure Container Instances in this region (portal:"
        " Quotas), or choose another AZURE_LOCATION",
    ),
    (
        r"not available in the location '[^']*' at this moment|resourcesnotavailableinregion",
        "ask for less (--cpu, --memory), choose another AZURE_LOCATION, or try again later",
    ),
    (r"dns ?name ?label", "choose another --dns-label"),
    (
        r"inaccessibleimage|registryerrorresponse|failed to pull image",
        "check that the image was pushed, and that the identity of MLOPS_AZURE_PULL_IDENTITY has the role AcrPull on"
        " its registry",
    ),
    (
        r"containergrouptransitioning|still transitioning",
        "another change is in progress: wait a minute, then try again",
    ),
    (
        r"linkedauthorizationfailed|userassignedidentities/assign/action",
        "ask for the role Managed Identity Operator on the identity of MLOPS_AZURE_PULL_IDENTITY",
    ),
    (
        r"authorization to perform action 'microsoft\.containerinstance/",
        "ask for the role Azure Container Instances Contributor Role on the resource group",
    ),
    (
        r"forbiddenbyrbac|forbiddenbypolicy|secrets (get|set|list|delete|recover) permission|vaults/secrets",
        "ask for the role Key Vault Secrets Officer on the vault of MLOPS_AZURE_KEY_VAULT",
    ),
    (r"forbiddenbyfirewall", "allow this machine's network in the firewall of the vault of MLOPS_AZURE_KEY_VAULT"),
    (
        r"unable to (download|pull)[^.]*image|imagepull|(failed|unable) to pull",
        "check the name and tag of the image, and that the identity of the endpoint has the role AcrPull on its registry",
    ),
    (
        r"(readiness|liveness|startup) probe|container (has )?crashed|resourcenotready",
        "its log says why; to run the same server on this machine: mlops serve BUNDLE",
    ),
    (
        r"endpoint name\b.*\b(taken|in use|not available|already exists)",
        "the names of endpoints are unique in a region: choose another with --endpoint",
    ),
    (
        r"instance type \S+ is (not|un)\s?supported",
        "choose a size that online endpoints support, such as Standard_DS3_v2 (--instance-type, MLOPS_AZURE_INSTANCE_TYPE)",
    ),
    (
        r"quota|not enough cores|insufficient.*(core|capacity)|skunotavailable|sku.*not (available|supported)",
        "ask for quota of this size in the Azure portal (Quotas), or choose another size or region"
        " (MLOPS_AZURE_CPU_SKU, MLOPS_AZURE_GPU_SKU; of endpoints --instance-type, MLOPS_AZURE_INSTANCE_TYPE)",
    ),
    (r"subscriptionnotfound|invalidsubscription", "check AZURE_SUBSCRIPTION_ID, and that you signed in to its tenant"),
    (r"resourcegroupnotfound", "check AZURE_RESOURCE_GROUP, or create the group"),
    (
        r"microsoft\.machinelearningservices/workspaces/[^/'\"]+'? under|workspace.*not (be )?found|workspacenotfound",
        "check AZUREML_WORKSPACE_NAME and AZURE_RESOURCE_GROUP, or create the workspace",
    ),
)
_PLACE = re.compile(
    r"subscriptionnotfound|invalidsubscription|resourcegroupnotfound|workspacenotfound"
    r"|microsoft\.machinelearningservices/workspaces/[^/'\"]+['\"]? under",
    re.IGNORECASE,
)
"""How responses describe a subscription, resource group or workspace that does not exist."""
_PROVIDER = re.compile(r"/resourceGroups/[^/]+/providers/([\w.]+)/", re.IGNORECASE)
_BY_STATUS = {
    400: "fix the value that the message names",
    401: f"the sign-in is not valid here (it has expired, or is for another tenant): {SIGN_IN}",
    403: "ask for a role on the workspace: AzureML Data Scientist runs jobs and deploys models, AzureML Compute Operator"
    " creates clusters",
    404: "check the name, and the workspace in AZUREML_WORKSPACE_NAME",
    409: "it exists already with other content, or another change is in progress: choose another name, or try again",
    429: "Azure limits the number of calls: wait a minute, then try again",
}


@contextmanager
def azure_errors(action: str, hint: str = "") -> Iterator[None]:
    """Turn exceptions of the Azure packages in the block into AzureError.

    Args:
        action: What is being done; begins the message, as in "<action>: <reason>".
        hint: What to do, if the kind of error has no better hint.

    Raises:
        AzureError: for all errors of the service, the network, the sign-in and the SDK's own checks.
        MissingExtraError: a package of the extra ``azure`` is not installed.
    """
    try:
        yield
    except MlopsError:
        raise
    except ModuleNotFoundError as error:
        missing = missing_extra(error.name or "")
        if missing is None:
            raise
        raise missing from error
    except Exception as error:
        translated = _translate(action, error, hint)
        if translated is None:
            raise
        raise translated from error


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later: after throttling, a fault of the service or a lost connection."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    origin = _origin(error)
    if isinstance(origin, HttpResponseError):
        return (origin.status_code or 0) in _RETRIED
    return isinstance(origin, ServiceRequestError | ServiceResponseError | ConnectionError | TimeoutError)


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that the service asks to wait; None if it does not say."""
    return wait_asked_for(getattr(getattr(_origin(error), "response", None), "headers", None) or {})


def is_missing(error: BaseException) -> bool:
    """Return whether the service says that the requested thing does not exist.

    A subscription, resource group or workspace that does not exist is a mistake in the settings instead.
    """
    if isinstance(error, AzureError) and error.status != 404:
        return False
    from azure.core.exceptions import HttpResponseError

    answer = _origin(error) if isinstance(error, AzureError) else error
    if isinstance(answer, HttpResponseError):
        return answer.status_code == 404 and not _PLACE.search(f"{getattr(answer.error, 'code', '')} {answer}")
    return isinstance(error, AzureError)


def found_or_none(get: Callable[[], T]) -> T | None:
    """Return what a call returns; None if the service says that it does not exist."""
    try:
        return get()
    except Exception as error:
        if is_missing(error):
            return None
        raise


def _translate(action: str, error: Exception, hint: str) -> AzureError | None:
    from azure.core.exceptions import AzureError as SdkError
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    # Only azure-ai-ml raises it, which is not installed everywhere: the web app does not have it.
    validation = getattr(sys.modules.get("marshmallow"), "ValidationError", SdkError)
    # The SDK's storage helper raises a plain Exception.
    if not isinstance(error, SdkError | validation) and type(error) is not Exception:
        return None
    origin: BaseException = _origin(error)
    unanswered = isinstance(origin, ServiceRequestError | ServiceResponseError)
    unsigned = isinstance(origin, ClientAuthenticationError) and not origin.status_code
    if (unanswered or unsigned) and (proxy := silent_proxy()):  # a failed sign-in does not say that nobody responded
        return AzureError(f"{action}: {proxy[0]}", proxy[1])
    if unsigned:
        reason = re.search(r"AADSTS\d+: [^\r\n]*", str(origin))  # if the sign-in service itself refuses
        told = reason[0][:_LENGTH] if reason else _first_line(origin)
        return AzureError(f"{action}: not signed in to Azure: {told}", SIGN_IN)
    if isinstance(origin, HttpResponseError) and origin.status_code:
        return _service_error(action, origin, hint)
    if unanswered:
        hint = "check the network and proxy, and AZURE_CLOUD if this is not Azure's public cloud"
        return AzureError(f"{action}: Azure cannot be reached: {_first_line(origin)}", hint)
    return AzureError(f"{action}: {_reason(error)}", hint or "fix what the message names")


def _service_error(action: str, error: Any, hint: str) -> AzureError:
    status = int(error.status_code or 0)
    code = str(getattr(error.error, "code", None) or getattr(error, "error_code", None) or _capitalised(error, "Code"))
    reason = _reason(error)
    known = _hint(f"{code} {error}")
    address = str(getattr(getattr(getattr(error, "response", None), "request", None), "url", ""))
    if status == 403 and not known and (found := _PROVIDER.search(address)):
        known = _hint(f"authorization to perform action '{found[1]}/'")  # the response need not name the action
    if status >= 500:
        hint = "Azure has a fault: try again in a minute"
    elif status not in (400, 404):  # hints of callers are about names and values
        hint = _BY_STATUS.get(status, hint)
    hint = known or hint or _BY_STATUS.get(status, "fix what the message names")
    # The response that reports a failed long-running operation is itself a success.
    shown = code or "failed" if status < 400 else f"HTTP {status} {code}".strip()
    # "job 'x': Job 'x' was not found" names it once.
    told = f"{action}{reason[len(action) :]}" if reason.lower().startswith(action.lower()) else f"{action}: {reason}"
    return AzureError(f"{told} ({shown})", hint, status)


def _hint(text: str) -> str:
    return next((hint for pattern, hint in _FIXES if re.search(pattern, text.lower())), "")


def _origin(error: BaseException) -> BaseException:
    """Return the response of the service, or the lost connection, behind an exception; else the exception itself."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        if isinstance(inner, HttpResponseError | ServiceRequestError | ServiceResponseError):
            return inner
        seen.append(inner)
        kept = getattr(inner, "inner_exception", None)
        inner = kept if isinstance(kept, BaseException) and kept is not inner else inner.__cause__
    return error


def _reason(error: BaseException) -> str:
    """Return the message on one line: the texts of the service's response, or the items of a list of the SDK."""
    answer: Any = getattr(error, "error", None)
    texts = [str(answer.message or "")] if getattr(answer, "message", None) else []
    texts += [str(detail.message) for detail in getattr(answer, "details", []) if getattr(detail, "message", None)]
    told = _capitalised(error, "Message") or str(getattr(error, "message", "") or error)
    text = "; ".join(dict.fromkeys(texts)) or told or type(error).__name__
    text = _COLOUR.sub("", text)
    marked = [line.split("(x)", 1)[1].strip() for line in text.splitlines() if "(x)" in line]
    text = " ".join("; ".join(marked).split()) if marked else " ".join(text.split())
    return text if len(text) <= _LENGTH else text[:_LENGTH] + " ..."


def _capitalised(error: BaseException, key: str) -> str:
    """Return a value of a response of App Service, whose keys begin with capitals, so that the SDK does not read them."""
    try:
        content = json.loads(getattr(error, "response").text())  # noqa: B009 - not every error has one
    except (AttributeError, ValueError, TypeError):
        return ""
    return str(content.get(key) or "") if isinstance(content, dict) else ""


def _first_line(error: BaseException) -> str:
    lines = _COLOUR.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:_LENGTH]
