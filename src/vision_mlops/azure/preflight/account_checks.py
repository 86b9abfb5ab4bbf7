"""Check the sign-in, and everything above the resources: subscription, resource group, providers, region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.preflight.caller import UNSEEN, Caller
from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.core.text import counted, nearest
from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_RESOURCES = "2021-04-01"
_SUBSCRIPTIONS = "2022-12-01"


def signed_in(credential: TokenCredential, settings: AzureSettings) -> tuple[Caller, Diagnosis]:
    """Find out who is signed in, and by which credential. Raises AzureError if nobody is."""
    import jwt

    with azure_errors("sign-in"):
        token = credential.get_token(f"{settings.cloud.resource_manager}/.default").token
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:  # Azure does not guarantee that its tokens can be read
        claims = {}
    name = str(claims.get("upn") or claims.get("unique_name") or claims.get("appid") or claims.get("oid") or "unknown")
    caller = Caller(str(claims.get("oid") or ""), name, str(claims.get("tid") or ""))
    if settings.tenant_id and caller.tenant and caller.tenant.lower() != settings.tenant_id.lower():
        detail = f"{name} is signed in to tenant {caller.tenant}, and AZURE_TENANT_ID is {settings.tenant_id}"
        return caller, failure("sign-in", detail, f"az login --tenant {settings.tenant_id}, or: unset AZURE_TENANT_ID")
    chosen = getattr(credential, "_successful_credential", None) or credential  # of a chain, the one with the token
    return caller, ok("sign-in", f"{name}, by {type(chosen).__name__}")


def check_subscription(reads: ResourceManager, settings: AzureSettings, caller: Caller) -> Diagnosis:
    """Check that the subscription exists and is enabled."""
    name = settings.subscription_id
    look = "`az account list --output table` lists yours; then: export AZURE_SUBSCRIPTION_ID=ID"
    try:
        found = reads.get("subscription", reads.subscription, _SUBSCRIPTIONS)
    except AzureError as error:
        if error.status == 404:
            return failure("subscription", f"{name} is not found, or not in the tenant of the sign-in", look)
        return _unseen("subscription", error, caller, reads.subscription)
    state = str(found.get("state") or "Enabled")
    shown = f"{found.get('displayName') or name} is {state}"
    if state in ("Enabled", "Active"):
        return ok("subscription", shown)
    if state in ("PastDue", "Warned"):
        return warning(
            "subscription", f"{shown}: it will be disabled", "pay its invoice: portal, Cost Management + Billing"
        )
    return failure(
        "subscription", f"{shown}: nothing can be created in it", f"enable it in the portal, or use another: {look}"
    )


def check_group(reads: ResourceManager, settings: AzureSettings, caller: Caller) -> Diagnosis:
    """Check that the resource group exists."""
    try:
        found = reads.get("resource group", reads.group, _RESOURCES)
    except AzureError as error:
        if error.status == 404:
            made = f"az group create --name {settings.resource_group} --location {settings.location}"
            fix = f"{made}, or: export AZURE_RESOURCE_GROUP=ANOTHER_GROUP"
            return failure("resource group", f"{settings.resource_group} does not exist", fix)
        return _unseen("resource group", error, caller, reads.group)
    return ok("resource group", f"{settings.resource_group} in {found.get('location') or 'an unknown region'}")


def check_providers(reads: ResourceManager, needed: tuple[str, ...], caller: Caller) -> Diagnosis:
    """Check that the resource providers are registered."""
    try:
        found = reads.list("resource providers", f"{reads.subscription}/providers", _RESOURCES)
    except AzureError as error:
        return _unseen("providers", error, caller, reads.subscription)
    states = {str(item.get("namespace")).lower(): str(item.get("registrationState")) for item in found}
    missing = [name for name in needed if states.get(name.lower()) != "Registered"]
    if missing:
        told = ", ".join(f"{name} is {states.get(name.lower(), 'unknown')}" for name in missing)
        fix = "; ".join(f"az provider register --namespace {name} --wait" for name in missing)
        return failure("providers", told, fix)
    return ok("providers", f"{counted(len(needed), 'resource provider')} registered")


def check_region(reads: ResourceManager, settings: AzureSettings, caller: Caller) -> Diagnosis:
    """Check that the region of the settings is available to the subscription."""
    try:
        found = reads.list("regions", f"{reads.subscription}/locations", _SUBSCRIPTIONS)
    except AzureError as error:
        return _unseen("region", error, caller, reads.subscription)
    names = [str(item.get("name")) for item in found]
    if settings.location in names:
        return ok("region", settings.location)
    known = nearest(settings.location, sorted(names)[:60], "`az account list-locations` lists all")
    fix = f"export AZURE_LOCATION=REGION. {known}"
    return failure("region", f"AZURE_LOCATION={settings.location}: unknown region for this subscription", fix)


def _unseen(name: str, error: AzureError, caller: Caller, scope: str) -> Diagnosis:
    """Report something that the roles of the caller do not let it see. Raises any other error."""
    if error.status != 403:
        raise error
    return warning(name, f"your roles do not let you see it, {UNSEEN}", caller.assignment("Reader", scope))
