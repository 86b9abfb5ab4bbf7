"""The calls of Azure App Service, in one resource group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vision_mlops.azure.azure_errors import azure_errors, is_missing
from vision_mlops.azure.clients import web_client
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.appservice.site_definition import TAG

if TYPE_CHECKING:
    from azure.mgmt.web import WebSiteManagementClient
    from azure.mgmt.web.models import AppServicePlan, Site

T = TypeVar("T")
PRODUCTION = ""
"""The name of the slot that is the web app itself, here."""


@dataclass(frozen=True)
class SlotAddress:
    """Where a slot is.

    Attributes:
        url: Of the app.
        publishing_host: Of its publishing site.
        principal: Object id of its managed identity; empty where it has none.
    """

    url: str
    publishing_host: str
    principal: str


class WebApps:
    """Plans, web apps and slots of a resource group. Everything raises AzureError.

    Args:
        settings: Where.
        client: Client to use instead of a new one.
    """

    def __init__(self, settings: AzureSettings, client: WebSiteManagementClient | None = None) -> None:
        self._group = settings.resource_group
        self._client = client or web_client(settings)

    def plan(self, name: str) -> AppServicePlan | None:
        """A plan; None where there is none of the name."""
        return self._found(f"plan {name!r}", lambda: self._client.app_service_plans.get(self._group, name))

    def put_plan(self, name: str, plan: AppServicePlan) -> AppServicePlan:
        """Make a plan, and wait until it is there."""
        with azure_errors(f"plan {name!r}"):
            return self._client.app_service_plans.begin_create_or_update(self._group, name, plan).result()

    def site(self, name: str, slot: str = PRODUCTION) -> Site | None:
        """A web app or slot; None where there is none of the name."""
        calls = self._client.web_apps
        if slot:
            return self._found(_what(name, slot), lambda: calls.get_slot(self._group, name, slot))
        return self._found(_what(name, slot), lambda: calls.get(self._group, name))

    def check_name(self, name: str) -> None:
        """Raises DeploymentError where the name belongs to somebody else's web app, or cannot be one."""
        with azure_errors(f"web app {name!r}"):
            from azure.mgmt.web.models import ResourceNameAvailabilityRequest

            wanted = ResourceNameAvailabilityRequest(name=name, type="Microsoft.Web/sites")
            found = self._client.check_name_availability(wanted)
        if not found.name_available:
            raise DeploymentError(
                f"the name {name!r} of the web app is not free: {found.message or found.reason}",
                "web apps share one name space with all others: choose another name",
            )

    def put_site(self, name: str, slot: str, site: Site) -> Site:
        """Make or change a web app or slot, and wait until that is done."""
        calls = self._client.web_apps
        with azure_errors(_what(name, slot)):
            if slot:
                return calls.begin_create_or_update_slot(self._group, name, slot, site).result()
            return calls.begin_create_or_update(self._group, name, site).result()

    def refuse_passwords(self, name: str, slot: str) -> None:
        """Publishing takes tokens of Microsoft Entra ID only, and no user name with a password."""
        calls = self._client.web_apps
        with azure_errors(f"{_what(name, slot)}: publishing credentials"):
            from azure.mgmt.web import models

            off = models.CsmPublishingCredentialsPoliciesEntity(
                properties=models.CsmPublishingCredentialsPoliciesEntityProperties(allow=False)
            )
            if slot:
                calls.update_scm_allowed_slot(self._group, name, slot, off)
                calls.update_ftp_allowed_slot(self._group, name, slot, off)
            else:
                calls.update_scm_allowed(self._group, name, off)
                calls.update_ftp_allowed(self._group, name, off)

    def settings(self, name: str, slot: str) -> dict[str, str]:
        """The settings of a web app or slot, with their values."""
        calls = self._client.web_apps
        with azure_errors(f"settings of {_what(name, slot)}"):
            if slot:
                found = calls.list_application_settings_slot(self._group, name, slot)
            else:
                found = calls.list_application_settings(self._group, name)
            return dict(found.properties or {})

    def put_settings(self, name: str, slot: str, settings: Mapping[str, str]) -> None:
        """Replace all settings; the app starts again with them."""
        calls = self._client.web_apps
        with azure_errors(f"settings of {_what(name, slot)}"):
            from azure.mgmt.web.models import StringDictionary

            wanted = StringDictionary(properties=dict(settings))
            if slot:
                calls.update_application_settings_slot(self._group, name, slot, wanted)
            else:
                calls.update_application_settings(self._group, name, wanted)

    def sticky(self, name: str) -> frozenset[str]:
        """Names of the settings that stay with their slot."""
        with azure_errors(f"settings of {_what(name, PRODUCTION)}"):
            found = self._client.web_apps.list_slot_configuration_names(self._group, name)
            names = found.properties.app_setting_names if found.properties else None
            return frozenset(names or ())

    def made(self) -> list[Site]:
        """The web apps of the resource group that this package made, without their slots."""
        with azure_errors("web apps"):
            found = self._client.web_apps.list_by_resource_group(self._group)
            return [site for site in found if TAG in (site.tags or {})]

    def delete(self, name: str, *, with_plan: bool) -> None:
        """Delete a web app with its slots; its plan, too, where that is wanted and no other web app is on it."""
        with azure_errors(_what(name, PRODUCTION)):
            self._client.web_apps.delete(self._group, name, delete_empty_server_farm=with_plan)

    def swap(self, name: str, slot: str) -> None:
        """Exchange a slot with production, and wait until that is done."""
        with azure_errors(f"swap of slot {slot!r} of web app {name!r}"):
            from azure.mgmt.web.models import CsmSlotEntity

            wanted = CsmSlotEntity(target_slot=slot, preserve_vnet=True)
            self._client.web_apps.begin_swap_slot_with_production(self._group, name, wanted).result()

    def log(self, name: str, slot: str) -> str:
        """What the processes of a web app or slot have written; empty where that cannot be read."""
        calls = self._client.web_apps
        try:
            with azure_errors(f"log of {_what(name, slot)}"):
                if slot:
                    found = calls.get_web_site_container_logs_slot(self._group, name, slot)
                else:
                    found = calls.get_web_site_container_logs(self._group, name)
                return b"".join(found or ()).decode(errors="replace")
        except AzureError:  # it is only read to tell of another fault
            return ""

    def _found(self, what: str, call: Callable[[], T]) -> T | None:
        with azure_errors(what):
            try:
                return call()
            except Exception as error:
                if is_missing(error):
                    return None
                raise


def address(site: Site) -> SlotAddress:
    """Where a web app or slot that was read is. Raises DeploymentError where the service does not say."""
    properties = site.properties
    states = (properties.host_name_ssl_states if properties else None) or []
    publishing = [str(item.name) for item in states if item.host_type == "Repository"]
    if properties is None or not properties.default_host_name or not publishing:
        raise DeploymentError(f"web app {site.name!r} has no address yet", "run the same command again in a minute")
    principal = str(site.identity.principal_id or "") if site.identity else ""
    return SlotAddress(f"https://{properties.default_host_name}", publishing[0], principal)


def _what(name: str, slot: str) -> str:
    return f"slot {slot!r} of web app {name!r}" if slot else f"web app {name!r}"
