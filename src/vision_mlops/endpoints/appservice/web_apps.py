"""The calls to Azure App Service, in one resource group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vision_mlops.azure.azure_errors import azure_errors, found_or_none
from vision_mlops.azure.clients import web_client
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, DeploymentError
from vision_mlops.endpoints.appservice.site_definition import TAG

if TYPE_CHECKING:
    from azure.mgmt.web import WebSiteManagementClient
    from azure.mgmt.web.models import AppServicePlan, Site

T = TypeVar("T")
PRODUCTION = ""
"""Name of the slot that is the web app itself."""


@dataclass(frozen=True)
class SlotAddress:
    """The addresses of a slot.

    Attributes:
        url: Address of the app.
        publishing_host: Host of its publishing site.
        principal: Object id of its managed identity; empty if it has none.
    """

    url: str
    publishing_host: str
    principal: str


class WebApps:
    """Plans, web apps and slots of a resource group. All methods raise AzureError.

    Args:
        settings: Where in Azure.
        client: Client to use instead of a new one.
    """

    def __init__(self, settings: AzureSettings, client: WebSiteManagementClient | None = None) -> None:
        self._group = settings.resource_group
        self._client = client or web_client(settings)

    def plan(self, name: str) -> AppServicePlan | None:
        """Return a plan; None if it does not exist."""
        return self._found(f"plan {name!r}", lambda: self._client.app_service_plans.get(self._group, name))

    def put_plan(self, name: str, plan: AppServicePlan) -> AppServicePlan:
        """Create a plan, and wait until it exists."""
        with azure_errors(f"plan {name!r}"):
            return self._client.app_service_plans.begin_create_or_update(self._group, name, plan).result()

    def site(self, name: str, slot: str = PRODUCTION) -> Site | None:
        """Return a web app or slot; None if it does not exist."""
        return self._found(_what(name, slot), lambda: self._call("get", name, slot))

    def check_name(self, name: str) -> None:
        """Raise DeploymentError if the name belongs to someone else's web app, or is not valid."""
        with azure_errors(f"web app {name!r}"):
            from azure.mgmt.web.models import ResourceNameAvailabilityRequest

            wanted = ResourceNameAvailabilityRequest(name=name, type="Microsoft.Web/sites")
            found = self._client.check_name_availability(wanted)
        if not found.name_available:
            raise DeploymentError(
                f"the name {name!r} of the web app is not available: {found.message or found.reason}",
                "the names of web apps are unique in Azure: choose another name",
            )

    def put_site(self, name: str, slot: str, site: Site) -> Site:
        """Create or change a web app or slot, and wait until that is done."""
        with azure_errors(_what(name, slot)):
            found: Site = self._call("begin_create_or_update", name, slot, site).result()
        return found

    def refuse_passwords(self, name: str, slot: str) -> None:
        """Let publishing accept tokens of Microsoft Entra ID only, and no user name with a password."""
        with azure_errors(f"{_what(name, slot)}: publishing credentials"):
            from azure.mgmt.web import models

            off = models.CsmPublishingCredentialsPoliciesEntity(
                properties=models.CsmPublishingCredentialsPoliciesEntityProperties(allow=False)
            )
            self._call("update_scm_allowed", name, slot, off)
            self._call("update_ftp_allowed", name, slot, off)

    def settings(self, name: str, slot: str) -> dict[str, str]:
        """Return the settings of a web app or slot, with their values."""
        with azure_errors(f"settings of {_what(name, slot)}"):
            return dict(self._call("list_application_settings", name, slot).properties or {})

    def put_settings(self, name: str, slot: str, settings: Mapping[str, str]) -> None:
        """Replace all settings; the app restarts with them."""
        with azure_errors(f"settings of {_what(name, slot)}"):
            from azure.mgmt.web.models import StringDictionary

            self._call("update_application_settings", name, slot, StringDictionary(properties=dict(settings)))

    def sticky(self, name: str) -> frozenset[str]:
        """Return names of the settings that stay with their slot."""
        with azure_errors(f"settings of {_what(name, PRODUCTION)}"):
            found = self._client.web_apps.list_slot_configuration_names(self._group, name)
            names = found.properties.app_setting_names if found.properties else None
            return frozenset(names or ())

    def made(self) -> list[Site]:
        """Return the web apps of the resource group that this package created, without their slots."""
        with azure_errors("web apps"):
            found = self._client.web_apps.list_by_resource_group(self._group)
            return [site for site in found if TAG in (site.tags or {})]

    def delete(self, name: str, *, with_plan: bool) -> None:
        """Delete a web app with its slots, and, if wanted, its plan, unless another web app uses it."""
        with azure_errors(_what(name, PRODUCTION)):
            self._client.web_apps.delete(self._group, name, delete_empty_server_farm=with_plan)

    def swap(self, name: str, slot: str) -> None:
        """Swap a slot with production, and wait until that is done."""
        with azure_errors(f"swap of slot {slot!r} of web app {name!r}"):
            from azure.mgmt.web.models import CsmSlotEntity

            wanted = CsmSlotEntity(target_slot=slot, preserve_vnet=True)
            self._client.web_apps.begin_swap_slot_with_production(self._group, name, wanted).result()

    def log(self, name: str, slot: str) -> str:
        """Return the log of the processes of a web app or slot; empty if it cannot be read."""
        try:
            with azure_errors(f"log of {_what(name, slot)}"):
                found = self._call("get_web_site_container_logs", name, slot)
                return b"".join(found or ()).decode(errors="replace")
        except AzureError:  # it is only read to explain another error
            return ""

    def _found(self, what: str, call: Callable[[], T]) -> T | None:
        with azure_errors(what):
            return found_or_none(call)

    def _call(self, operation: str, name: str, slot: str, *words: Any) -> Any:
        """Call an operation of the SDK on a web app, or on a slot by its twin, whose name ends in ``_slot``."""
        method = getattr(self._client.web_apps, f"{operation}_slot" if slot else operation)
        return method(self._group, name, *([slot] if slot else []), *words)


def address(site: Site) -> SlotAddress:
    """Return the addresses of a web app or slot. Raises DeploymentError if the service does not report them."""
    properties = site.properties
    states = (properties.host_name_ssl_states if properties else None) or []
    publishing = [str(item.name) for item in states if item.host_type == "Repository"]
    if properties is None or not properties.default_host_name or not publishing:
        raise DeploymentError(f"web app {site.name!r} has no address yet", "run the same command again in a minute")
    principal = str(site.identity.principal_id or "") if site.identity else ""
    return SlotAddress(f"https://{properties.default_host_name}", publishing[0], principal)


def _what(name: str, slot: str) -> str:
    return f"slot {slot!r} of web app {name!r}" if slot else f"web app {name!r}"
