"""The definitions of plan, web app and slot, and the settings of a release."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.made_tags import made_tags
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.appservice.app_package import STARTUP, AppPackage

if TYPE_CHECKING:
    from azure.mgmt.web.models import AppServicePlan, Site

SKU = "P0v3"
SLOT = "staging"
HEALTH = "/health"
RELEASE = "MLOPS_RELEASE"
"""The setting with the release that a slot runs; it moves with the release when slots are swapped."""
APP = "MLOPS_APP_"
SECRETS = frozenset({f"{APP}ENDPOINT_KEY", f"{APP}SECRET_KEY"})
"""Settings whose values are never printed."""
TAG = "mlops.app"
PORT = 8000
_RUNTIME = "PYTHON|3.11"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])")
_SKU = re.compile(r"F1|D1|B[1-3]|S[1-3]|P[0-5](m?v[2-4])|I[1-6]m?v2")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(r"@Microsoft\.KeyVault\(.+\)")
_NO_SLOTS = ("F", "D", "B")
_NOT_ALWAYS_ON = ("F", "D")


@dataclass(frozen=True)
class WantedApp:
    """The wanted state of a web app.

    Attributes:
        name: Name of the web app; the first part of its host name.
        plan: Name of the App Service plan.
        sku: Size of the machines of a new plan; empty for the default.
        slot: Slot in which a release is tested first.
        location: Region of new resources.
        package: The zip that it runs.
        image: The image that it runs instead.
        settings: Variables of the app that are given now.
        workload: The workload that it belongs to, for `mlops down`; empty for none.
    """

    name: str
    plan: str
    sku: str
    slot: str
    location: str
    package: AppPackage | None
    image: str = ""
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    workload: str = ""

    @property
    def release(self) -> str:
        """Sixteen digits that change with everything that makes a different release."""
        runs = self.package.digest if self.package else self.image
        fixed = fixed_settings(self)
        text = json.dumps([runs, runtime(self), STARTUP, {**fixed, **self.settings}], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(wanted: WantedApp) -> WantedApp:
    """Return the argument. Raises DeploymentError if a name, size or setting is not valid."""
    if not _NAME.fullmatch(wanted.name):
        raise DeploymentError(
            f"{wanted.name!r} cannot be the name of a web app",
            "use 2 to 60 lower-case letters, digits and '-', not at either end: it becomes NAME.azurewebsites.net",
        )
    for what, name in (("--slot", wanted.slot), ("--plan", wanted.plan)):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,58}", name) or name.lower() == "production":
            raise DeploymentError(
                f"{what} {name!r} is not a valid name", "use letters, digits and '-'; production is the app itself"
            )
    if wanted.sku and not _SKU.fullmatch(wanted.sku):
        raise DeploymentError(f"--sku: unknown size {wanted.sku!r}", "use one such as B1, S1, P0v3 or P1v3")
    if wanted.image and not _IMAGE.fullmatch(wanted.image):
        raise DeploymentError(
            f"--image {wanted.image!r} does not name an image by its digest",
            "write REGISTRY/NAME@sha256:DIGEST, with the digest of the image that was tested",
        )
    corrections = wanted.settings.get(f"{APP}CORRECTIONS", "")
    if corrections and not corrections.startswith("https://"):
        raise DeploymentError(
            f"{APP}CORRECTIONS={corrections}: a web app has no permanent folder for a database",
            "give the address of a container of Blob Storage",
        )
    return wanted


def has_slots(sku: str) -> bool:
    """Return whether web apps of a plan of this size may have slots."""
    return not sku.upper().startswith(_NO_SLOTS)


def is_reference(value: str) -> bool:
    """Return whether a setting is a reference to a secret in a key vault."""
    return _REFERENCE.fullmatch(value) is not None


def runtime(wanted: WantedApp) -> str:
    """Return the image that App Service runs: its own for Python, or ours."""
    return f"DOCKER|{wanted.image}" if wanted.image else _RUNTIME


def fixed_settings(wanted: WantedApp) -> dict[str, str]:
    """Return settings of every release."""
    ours = {
        "WEBSITE_SWAP_WARMUP_PING_PATH": HEALTH,
        "WEBSITE_SWAP_WARMUP_PING_STATUSES": "200",
        # The front end of App Service is the only proxy before the app.
        f"{APP}TRUST_PROXY": "1",
    }
    if wanted.image:
        return {**ours, "WEBSITES_PORT": str(PORT), "PORT": str(PORT), "DOCKER_ENABLE_CI": "false"}
    return {**ours, "SCM_DO_BUILD_DURING_DEPLOYMENT": "true"}


def release_settings(
    wanted: WantedApp, live: Mapping[str, str], slot: Mapping[str, str], sticky: frozenset[str]
) -> dict[str, str]:
    """Return all settings of the slot that gets a release.

    Settings that are not given now are taken from production; sticky settings are taken from the slot.

    Args:
        wanted: The release.
        live: Settings of production.
        slot: Settings of the slot.
        sticky: Names of settings that are not swapped.
    """
    kept = {name: value for name, value in live.items() if name not in sticky}
    staying = {name: value for name, value in slot.items() if name in sticky}
    secret = f"{APP}SECRET_KEY"
    # Sessions survive a swap because both slots sign with the same key.
    key = wanted.settings.get(secret) or live.get(secret) or slot.get(secret) or secrets.token_hex(32)
    own = {**fixed_settings(wanted), **wanted.settings, secret: key, RELEASE: wanted.release}
    return {**kept, **own, **staying}


def plan_definition(wanted: WantedApp) -> AppServicePlan:
    """Return the plan as an object of the SDK. Raises MissingExtraError."""
    with azure_errors("Azure App Service"):
        from azure.mgmt.web import models
    return models.AppServicePlan(
        location=wanted.location,
        kind="linux",
        tags=made_tags(wanted.workload),
        sku=models.SkuDescription(name=wanted.sku or SKU),
        properties=models.AppServicePlanProperties(reserved=True),  # that is Linux
    )


def site_definition(
    wanted: WantedApp, plan: AppServicePlan, tags: Mapping[str, str], settings: Mapping[str, str] | None = None
) -> Site:
    """Return a web app or slot as an object of the SDK.

    Args:
        wanted: The web app.
        plan: Its plan, as it was read.
        tags: Tags of others.
        settings: Settings of a release; if given, what the app runs is set as well, else that stays unchanged.

    Raises:
        MissingExtraError: the Azure packages are not installed.
    """
    with azure_errors("Azure App Service"):
        from azure.mgmt.web import models
    config = models.SiteConfig(
        always_on=not str(plan.sku.name if plan.sku else SKU).upper().startswith(_NOT_ALWAYS_ON),
        min_tls_version="1.2",
        scm_min_tls_version="1.2",
        ftps_state="Disabled",
        http20_enabled=True,
        health_check_path=HEALTH,
    )
    if settings is not None:
        config.linux_fx_version = runtime(wanted)
        config.app_command_line = "" if wanted.image else STARTUP
        config.acr_use_managed_identity_creds = bool(wanted.image)
        config.app_settings = [models.NameValuePair(name=name, value=value) for name, value in settings.items()]
    return models.Site(
        location=plan.location,
        kind="app,linux,container" if wanted.image else "app,linux",
        tags={**tags, **made_tags(wanted.workload), TAG: wanted.name},
        identity=models.ManagedServiceIdentity(type="SystemAssigned"),
        properties=models.SiteProperties(
            server_farm_id=plan.id,
            reserved=True,
            https_only=True,
            client_affinity_enabled=False,
            site_config=config,
        ),
    )
