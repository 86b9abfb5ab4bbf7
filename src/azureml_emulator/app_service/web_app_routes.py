"""Azure App Service: web apps and their slots, which really run what is deployed to them.

Difference from the service: all addresses are ``127.0.0.1``, with a port for each slot and one for its publishing site,
and the responses give them as the host names of the slot.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.app_service.plan_routes import PlanRoutes, checked_plan, slots_of, tier
from azureml_emulator.app_service.publishing_site import PublishingSite
from azureml_emulator.app_service.site_config_routes import SITES, SiteConfigRoutes
from azureml_emulator.app_service.site_content import SiteEnvironments
from azureml_emulator.app_service.site_defaults import with_config_defaults, with_site_defaults
from azureml_emulator.app_service.site_slot import PRODUCTION, SiteImage, SiteSlot, Surroundings
from azureml_emulator.app_service.slot_swap import SlotSwap
from azureml_emulator.app_service.web_refusals import WebRefusalError, conflict, not_found
from azureml_emulator.certificates import Certificates
from azureml_emulator.resources.rest_resources import now
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, reply, route

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,58}[A-Za-z0-9])?")


class AppService:
    """The calls about web apps.

    Tests fill :attr:`images`, set :attr:`taken_names`, :attr:`start_seconds` and ``plans.quota``, :meth:`deny` actions, and
    read :attr:`sent`, the paths and bodies of the received changes, and :attr:`slots`. :attr:`network` are variables
    that direct web apps to the other services.

    Args:
        subscription: Subscription of the web apps.
        certificates: Certificates of their addresses.
        guard: Adds the check of tokens to routes.
        secret: Returns the value of a secret of the key vault by its address; None if there is none.
    """

    def __init__(
        self,
        subscription: Subscription,
        certificates: Certificates,
        guard: Callable[[list[BaseRoute]], object],
        secret: Callable[[str], str | None],
    ) -> None:
        self._subscription = subscription
        self._certificates = certificates
        self._guard = guard
        self._secret = secret
        self._environments = SiteEnvironments(subscription.folder.parent / "site-environments")
        self._lock = threading.RLock()
        self.plans = PlanRoutes(subscription)
        self._configuration = SiteConfigRoutes(self._find, self._note)
        self.slots: dict[tuple[str, str], SiteSlot] = {}
        self.publishing: dict[tuple[str, str], PublishingSite] = {}
        self.images: dict[str, SiteImage] = {}
        self.network: dict[str, str] = {}
        self.clear()

    def clear(self) -> None:
        """Stop everything and forget it."""
        self.stop()
        self.plans.clear()
        self.images.clear()
        self.taken_names: set[str] = set()
        self.sent: list[tuple[str, Json]] = []
        self.start_seconds = 60.0
        self._configuration.clear()
        self._denied: set[str] = set()

    def stop(self) -> None:
        """End all web apps."""
        with self._lock:
            for slot in self.slots.values():
                slot.close()
            self.slots.clear()
            self.publishing.clear()

    def deny(self, *actions: str) -> None:
        """Refuse changes from now on, such as ``sites/write`` or ``sites/slots/write``; with none, allow all again."""
        self._denied = set(actions)

    def stick(self, site: str, *names: str) -> None:
        """Make settings of these names stay with their slot, as somebody does in the portal."""
        self._configuration.sticky_of(site).update(names)

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        found: list[BaseRoute] = [
            *self.plans.routes(),
            *self._configuration.routes(),
            route("/subscriptions/{subscription}/providers/Microsoft.Web/checknameavailability", POST=self._check_name),
            route(SITES, GET=self._list),
            route(SITES + "/{name}/slots", GET=self._list_slots),
            route(SITES + "/{name}/slotsswap", POST=self._swap),
        ]
        for one in (SITES + "/{name}", SITES + "/{name}/slots/{slot}"):
            found += [
                route(one, GET=self._get, PUT=self._put, DELETE=self._delete),
                route(one + "/containerlogs", POST=self._logs),
                route(one + "/restart", POST=self._restart),
                route(one + "/start", POST=self._start),
                route(one + "/stop", POST=self._stop),
            ]
        return found

    def _check_name(self, call: RestCall) -> Response:
        name = str(call.body.get("name") or "")
        if not _NAME.fullmatch(name) or len(name) < 2:
            return reply({"nameAvailable": False, "reason": "Invalid", "message": f"{name} is an invalid name"})
        if name.lower() in self.taken_names or (name.lower(), PRODUCTION) in self.slots:
            message = f"Hostname '{name}' already exists. Please select a different name."
            return reply({"nameAvailable": False, "reason": "AlreadyExists", "message": message})
        return reply({"nameAvailable": True, "reason": "", "message": ""})

    def _list(self, call: RestCall) -> Response:
        found = [self._shown(slot) for (_, name), slot in self.slots.items() if name == PRODUCTION]
        return reply(self._subscription.page_of(found, call))

    def _list_slots(self, call: RestCall) -> Response:
        self._find(call)
        wanted = call.names["name"].lower()
        found = [
            self._shown(slot) for (site, name), slot in self.slots.items() if site == wanted and name != PRODUCTION
        ]
        return reply(self._subscription.page_of(found, call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._shown(self._find(call)))

    def _find(self, call: RestCall, slot: str = "") -> SiteSlot:
        name, slot = call.names["name"], slot or call.names.get("slot", PRODUCTION)
        found = self.slots.get((name.lower(), slot.lower()))
        if found is None:
            shown = name if slot == PRODUCTION else f"{name}/slots/{slot}"
            raise not_found("sites", shown, call.names["group"])
        return found

    def _note(self, call: RestCall, action: str) -> None:
        """Record a change; refuse it if it is denied."""
        self.sent.append((call.path.split("/Microsoft.Web/")[-1], copy.deepcopy(call.body)))
        kind = "sites/slots" if "slot" in call.names else "sites"
        if f"{kind}/{action}" in self._denied:
            who = call.claims.get("oid", "")
            message = (
                f"The client {who!r} with object id {who!r} does not have authorization to perform action"
                f" 'Microsoft.Web/{kind}/{action}' over scope '{call.path}' or the scope is invalid."
            )
            raise ServiceRefusalError(403, "AuthorizationFailed", message)

    def _put(self, call: RestCall) -> Response:
        with self._lock:
            self._note(call, "write")
            name, slot = call.names["name"], call.names.get("slot", PRODUCTION)
            kept = self.slots.get((name.lower(), slot.lower()))
            if kept is None:
                self._check_new(call, name, slot)
            plan_id = str(
                call.properties.get("serverFarmId") or (kept and kept.body["properties"]["serverFarmId"]) or ""
            )
            plan = checked_plan(self.plans.find(plan_id), plan_id)
            config = call.properties.get("siteConfig") or {}
            if config.get("alwaysOn") and tier(plan) in ("Free", "Shared"):
                raise conflict(
                    "There was a conflict. AlwaysOn cannot be set for this site as the plan does not allow it."
                )
            if kept is None and slot != PRODUCTION and self._slot_count(name) >= slots_of(plan):
                message = "Cannot complete the operation because the site will exceed the number of slots allowed for"
                raise conflict(f"{message} the '{tier(plan)}' SKU.")
            made = kept or self._make(name, slot)
            if kept is None:
                plan.properties["numberOfSites"] = self.plans.sites_of(plan) + 1
            before = (dict(made.settings), dict(made.config))
            former = made.body.get("properties", {})
            made.body = {**made.body, **call.body}
            made.body["properties"] = {**former, **call.properties, "serverFarmId": plan.id}
            made.body["properties"].pop("siteConfig", None)
            settings = config.get("appSettings")
            written = {key: value for key, value in config.items() if value is not None and key != "appSettings"}
            made.config.update(written)
            if settings is not None:
                made.settings = {item["name"]: str(item.get("value") or "") for item in settings}
            if (dict(made.settings), dict(made.config)) != before:
                made.restart()
            return self._subscription.operations.start(lambda: self._shown(made), self._shown(made), 202)

    def _check_new(self, call: RestCall, name: str, slot: str) -> None:
        if slot != PRODUCTION:
            self._find(call, PRODUCTION)
        elif name.lower() in self.taken_names:
            raise conflict(f"Website with given name {name} already exists.")
        if not _NAME.fullmatch(name if slot == PRODUCTION else slot):
            raise WebRefusalError(400, "BadRequest", f"The name {name if slot == PRODUCTION else slot} is invalid.")
        if not call.body.get("location"):
            raise WebRefusalError(400, "LocationRequired", "The location property is required for this definition.")

    def _slot_count(self, name: str) -> int:
        return sum(site == name.lower() for site, _ in self.slots) - 1

    def to_kept(self) -> Json:
        """Return all web apps and slots as JSON."""
        with self._lock:
            slots = [slot.to_kept() for slot in self.slots.values()]
        return {"slots": slots, "sticky": self._configuration.to_kept()}

    def take(self, kept: Json) -> None:
        """Restore what :meth:`to_kept` returned, and run it."""
        for item in kept["slots"]:
            self._make(item["site"], item["name"], Path(item["folder"])).take(item)
        self._configuration.take(kept["sticky"])

    def port_of(self, host: str) -> int | None:
        """Return the address of a web app or its publishing site by its host name; None if there is none."""
        with self._lock:
            found = [slot.ports[host] for slot in self.slots.values() if host in slot.ports]
        return found[0] if found else None

    def _hosts(self, site: str, slot: str) -> tuple[str, str] | None:
        name = (site if slot.lower() == PRODUCTION else f"{site}-{slot}").lower()
        public = self._subscription.addresses.public
        return (f"{name}.azurewebsites.net", f"{name}.scm.azurewebsites.net") if public else None

    def _make(self, name: str, slot: str, folder: Path | None = None) -> SiteSlot:
        around = Surroundings(
            self._subscription.folder,
            self._certificates,
            self.images,
            self._secret,
            {**self._subscription.commands.site_variables(), **self.network},
            lambda: self.start_seconds,
            self._hosts,
        )

        def publishing(made: SiteSlot) -> object:
            site = PublishingSite(made, self._environments, partial(self._require_publisher, made))
            self.publishing[name.lower(), slot.lower()] = site
            return self._guard(site.routes())

        made = SiteSlot(name, slot, around, publishing, folder)
        self.slots[name.lower(), slot.lower()] = made
        return made

    def _require_publisher(self, slot: SiteSlot, call: RestCall) -> None:
        self._subscription.roles.require(call.claims, "Microsoft.Web/sites/publish/action", self._id(slot))

    def _delete(self, call: RestCall) -> Response:
        with self._lock:
            self._note(call, "delete")
            name, slot = call.names["name"].lower(), call.names.get("slot", PRODUCTION).lower()
            gone = [key for key in self.slots if key[0] == name and slot in (PRODUCTION, key[1])]
            if not gone:
                return reply(None, 204)
            plan = self.plans.find(self.slots[gone[0]].body["properties"]["serverFarmId"])
            for key in gone:
                self.slots.pop(key).close()
                del self.publishing[key]
            if plan is not None:
                plan.properties["numberOfSites"] = self.plans.sites_of(plan) - len(gone)
                if not self.plans.sites_of(plan) and call.query.get("deleteEmptyServerFarm") != "false":
                    self._subscription.store.delete(plan.id)
            return reply()

    def _logs(self, call: RestCall) -> Response:
        return Response(self._find(call).log(), media_type="application/octet-stream")

    def _restart(self, call: RestCall) -> Response:
        self._note(call, "restart/action")
        self._find(call).restart()
        return reply()

    def _start(self, call: RestCall) -> Response:
        slot = self._find(call)
        slot.running = True
        slot.restart()
        return reply()

    def _stop(self, call: RestCall) -> Response:
        slot = self._find(call)
        slot.running = False
        slot.stop()
        return reply()

    def _swap(self, call: RestCall) -> Response:
        """Exchange production and a slot."""
        self._note(call, "slotsswap/action")
        production, staging = self._find(call), self._find(call, str(call.body.get("targetSlot") or ""))
        swap = SlotSwap(staging, production, self._configuration.sticky_of(call.names["name"]))
        return self._subscription.operations.start(swap.finish, until=lambda: swap.done)

    def _id(self, slot: SiteSlot) -> str:
        base = SITES.format(subscription=self._subscription.subscription, group=self._subscription.group)
        return f"{base}/{slot.site}" + ("" if slot.name == PRODUCTION else f"/slots/{slot.name}")

    def _shown(self, slot: SiteSlot) -> Json:
        body = copy.deepcopy(slot.body)
        named = slot.site if slot.name == PRODUCTION else f"{slot.site}/{slot.name}"
        kind = "sites" if slot.name == PRODUCTION else "sites/slots"
        identity = body.get("identity") or {}
        if identity.get("type"):
            body["identity"] = {**identity, "principalId": slot.principal, "tenantId": self._subscription.tenant}
        hosts = [slot.host, slot.publishing_host]
        body["properties"] = with_site_defaults(body["properties"])
        body["properties"].update(
            siteConfig=with_config_defaults(slot.config),
            repositorySiteName=slot.site,
            state="Running" if slot.running else "Stopped",
            hostNames=hosts[:1],
            enabledHostNames=hosts,
            defaultHostName=slot.host,
            availabilityState="Normal",
            lastModifiedTimeUtc=now(),
            resourceGroup=self._subscription.group,
            hostNameSslStates=[
                {"name": hosts[0], "sslState": "Disabled", "hostType": "Standard"},
                {"name": hosts[1], "sslState": "Disabled", "hostType": "Repository"},
            ],
        )
        return {**body, "id": self._id(slot), "name": named, "type": f"Microsoft.Web/{kind}"}
