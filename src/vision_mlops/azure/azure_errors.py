"""The one place where exceptions of the Azure packages become :class:`AzureError`: what failed, why, and what mends it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vision_mlops.azure.proxy_check import silent_proxy
from vision_mlops.core.errors import AzureError, MissingExtraError, MlopsError

SIGN_IN = (
    "run `az login`, or export AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; in a pipeline use workload"
    " identity federation"
)
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_PACKAGES = {
    "azure.keyvault": "azure-keyvault-secrets",
    "azure.mgmt": "azure-mgmt-containerinstance",
    "azure.mgmt.web": "azure-mgmt-web",
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LENGTH = 600
# The first whose pattern is found in the error's code or message says what to do.
_MENDS = (
    (
        r"keybasedauthenticationnotpermitted|key based authentication is not permitted",
        "the workspace's storage account takes no keys: let its datastores be opened by identity (az ml workspace update"
        " --system-datastores-auth-mode identity), and ask for the role Storage Blob Data Contributor on the account",
    ),
    (
        r"without additional quota",
        "ask for quota of App Service in this region (portal: Quotas), or choose another --sku or AZURE_LOCATION",
    ),
    (r"website with given name|hostname '[^']*' already exists", "web apps share one name space: choose another name"),
    (r"number of slots allowed", "a plan has slots from the tier Standard on: choose --sku S1 or P0v3"),
    (
        r"authorization to perform action 'microsoft\.web/",
        "ask for the roles Website Contributor and Web Plan Contributor on the resource group",
    ),
    (
        r"containergroupquotareached|containerinstance/containergroups' container group quota",
        "delete container groups that nobody uses, ask for quota of Azure Container Instances in this region (portal:"
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
    (r"containergrouptransitioning|still transitioning", "another change is under way: wait a minute, then try again"),
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
        "its log says why; the same server on this machine: mlops serve BUNDLE",
    ),
    (
        r"endpoint name\b.*\b(taken|in use|not available|already exists)",
        "the name of an endpoint is unique in a region: choose another with --endpoint",
    ),
    (
        r"instance type \S+ is (not|un)\s?supported",
        "choose a size that online endpoints have, such as Standard_DS3_v2 (--instance-type, MLOPS_AZURE_INSTANCE_TYPE)",
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
"""What an answer says of a subscription, resource group or workspace that does not exist."""
_PROVIDER = re.compile(r"/resourceGroups/[^/]+/providers/([\w.]+)/", re.IGNORECASE)
_BY_STATUS = {
    400: "mend the value that the message names",
    401: f"the sign-in is not valid here (expired, or another tenant): {SIGN_IN}",
    403: "ask for a role on the workspace: AzureML Data Scientist runs jobs and deploys models, AzureML Compute Operator"
    " creates clusters",
    404: "check the name, and the workspace in AZUREML_WORKSPACE_NAME",
    409: "it exists already with other content, or another change is under way: choose another name, or try again",
    429: "Azure limits the number of calls: wait a minute, then try again",
}


@contextmanager
def azure_errors(action: str, mend: str = "") -> Iterator[None]:
    """Turn what the Azure packages raise in the body into AzureError.

    Args:
        action: What is being done, as in "<action>: <reason>"; begins the message.
        mend: Hint where the kind of error does not say a better one.

    Raises:
        AzureError: everything that the service, the network, the sign-in or the SDK's own checks complain about.
        MissingExtraError: a package of the extra ``azure`` is not installed.
    """
    try:
        yield
    except MlopsError:
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("azure", "msal", "marshmallow"):
            raise
        parts = (error.name or "").split(".")
        names = (".".join(parts[:length]) for length in (3, 2))
        package = next((_PACKAGES[name] for name in names if name in _PACKAGES), "azure-ai-ml")
        raise MissingExtraError(package, "azure") from error
    except Exception as error:
        translated = _translate(action, error, mend)
        if translated is None:
            raise
        raise translated from error


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: throttling, a fault of the service, a lost connection."""
    from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError

    origin = _origin(error)
    if isinstance(origin, HttpResponseError):
        return (origin.status_code or 0) in _RETRIED
    return isinstance(origin, ServiceRequestError | ServiceResponseError | ConnectionError | TimeoutError)


def retry_after(error: BaseException) -> float | None:
    """Seconds that the service asks to wait for; None where it does not say."""
    headers = getattr(getattr(_origin(error), "response", None), "headers", None) or {}
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):  # not there, or a date
            continue
    return None


def is_missing(error: BaseException) -> bool:
    """Whether the service says that the thing asked for does not exist.

    A subscription, resource group or workspace that does not exist is a mistake in the settings, and no such answer.
    """
    if isinstance(error, AzureError) and error.status != 404:
        return False
    from azure.core.exceptions import HttpResponseError

    answer = _origin(error) if isinstance(error, AzureError) else error
    if isinstance(answer, HttpResponseError):
        return answer.status_code == 404 and not _PLACE.search(f"{getattr(answer.error, 'code', '')} {answer}")
    return isinstance(error, AzureError)


def _translate(action: str, error: Exception, mend: str) -> AzureError | None:
    from azure.core.exceptions import AzureError as SdkError
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    # Only azure-ai-ml raises it: where that is not installed, as in the web app, there is none.
    validation = getattr(sys.modules.get("marshmallow"), "ValidationError", SdkError)
    # The SDK's storage helper raises nothing better than Exception.
    if not isinstance(error, SdkError | validation) and type(error) is not Exception:
        return None
    origin: BaseException = _origin(error)
    unanswered = isinstance(origin, ServiceRequestError | ServiceResponseError)
    unsigned = isinstance(origin, ClientAuthenticationError) and not origin.status_code
    if (unanswered or unsigned) and (proxy := silent_proxy()):  # a failed sign-in does not say that it was not heard
        return AzureError(f"{action}: {proxy[0]}", proxy[1])
    if unsigned:
        reason = re.search(r"AADSTS\d+: [^\r\n]*", str(origin))  # where the sign-in service itself refuses
        told = reason[0][:_LENGTH] if reason else _first_line(origin)
        return AzureError(f"{action}: not signed in to Azure: {told}", SIGN_IN)
    if isinstance(origin, HttpResponseError) and origin.status_code:
        return _answered(action, origin, mend)
    if unanswered:
        hint = "check the network and proxy, and AZURE_CLOUD where this is not Azure's public cloud"
        return AzureError(f"{action}: Azure is not reached: {_first_line(origin)}", hint)
    return AzureError(f"{action}: {_reason(error)}", mend or "mend what the message names")


def _answered(action: str, error: Any, mend: str) -> AzureError:
    status = int(error.status_code or 0)
    code = str(getattr(error.error, "code", None) or getattr(error, "error_code", None) or _capitalised(error, "Code"))
    reason = _reason(error)
    hint = _hint(f"{code} {error}")
    if (
        status == 403 and not hint and (found := _PROVIDER.search(_address(error)))
    ):  # the answer need not say the action
        hint = _hint(f"authorization to perform action '{found[1]}/'")
    if status >= 500:
        mend = "Azure has a fault: try again in a minute"
    elif status not in (400, 404):  # what the caller can advise is about names and values
        mend = _BY_STATUS.get(status, mend)
    hint = hint or mend or _BY_STATUS.get(status, "mend what the message names")
    # A long-running operation that failed is told by an answer that is itself fine.
    shown = code or "failed" if status < 400 else f"HTTP {status} {code}".strip()
    return AzureError(f"{action}: {reason} ({shown})", hint, status)


def _hint(text: str) -> str:
    return next((hint for pattern, hint in _MENDS if re.search(pattern, text.lower())), "")


def _address(error: Any) -> str:
    """What was called; empty where it is not known."""
    return str(getattr(getattr(getattr(error, "response", None), "request", None), "url", ""))


def _origin(error: BaseException) -> BaseException:
    """The answer of the service, or the loss of the connection, that an exception was made of; else the exception."""
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
    """The message in one line: of the service's answer the text of its innermost detail, of the SDK's lists the items."""
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
    """A word of the answer of App Service, whose keys begin with capitals, which the SDK does not read."""
    try:
        content = json.loads(getattr(error, "response").text())  # noqa: B009 - not every error has one
    except (AttributeError, ValueError, TypeError):
        return ""
    return str(content.get(key) or "") if isinstance(content, dict) else ""


def _first_line(error: BaseException) -> str:
    lines = _COLOUR.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:_LENGTH]
