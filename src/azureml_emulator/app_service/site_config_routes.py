"""The configuration of web apps and slots: settings, which settings stay with their slot, and who may publish."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.app_service.plan_routes import PROVIDER
from azureml_emulator.app_service.site_defaults import with_config_defaults
from azureml_emulator.app_service.site_slot import PRODUCTION, SiteSlot
from azureml_emulator.app_service.web_refusals import WebRefusalError, not_found
from azureml_emulator.resources.resource_description import resource_type
from azureml_emulator.rest.rest_calls import Json, RestCall, reply, route

SITES = PROVIDER + "/sites"
_SETTING = re.compile(r"[\w.:-]+")


class SiteConfigRoutes:
    """The calls about configuration.

    Args:
        find: Finds the slot of a call.
        note: Records a change, and refuses it if it is denied.
    """

    def __init__(self, find: Callable[[RestCall], SiteSlot], note: Callable[[RestCall, str], None]) -> None:
        self._find = find
        self._note = note
        self._lock = threading.RLock()
        self._sticky: dict[str, set[str]] = {}

    def clear(self) -> None:
        """Forget which settings stay with their slot."""
        self._sticky.clear()

    def to_kept(self) -> Json:
        """Return the names of the settings that stay with their slot, by web app."""
        return {site: sorted(names) for site, names in self._sticky.items()}

    def take(self, kept: Json) -> None:
        """Restore what :meth:`to_kept` returned."""
        self._sticky.update({site: set(names) for site, names in kept.items()})

    def sticky_of(self, site: str) -> set[str]:
        """Return the names of the settings that stay with their slot."""
        return self._sticky.setdefault(site.lower(), set())

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        names = SITES + "/{name}/config/slotConfigNames"
        found: list[BaseRoute] = [route(names, GET=self._sticky_names, PUT=self._put_sticky_names)]
        for one in (SITES + "/{name}", SITES + "/{name}/slots/{slot}"):
            found += [
                route(one + "/config/appsettings/list", POST=self._list_settings),
                route(one + "/config/appsettings", PUT=self._put_settings),
                route(one + "/config/web", GET=self._config, PATCH=self._patch_config, PUT=self._patch_config),
                route(one + "/basicPublishingCredentialsPolicies/{kind}", GET=self._policy, PUT=self._put_policy),
            ]
        return found

    def _list_settings(self, call: RestCall) -> Response:
        return self._settings_of(self._find(call), call)

    def _put_settings(self, call: RestCall) -> Response:
        with self._lock:
            self._note(call, "config/write")
            slot = self._find(call)
            wrong = [name for name in call.properties if not _SETTING.fullmatch(name)]
            if wrong:
                raise WebRefusalError(400, "BadRequest", f"AppSetting with name '{wrong[0]}' is not allowed.")
            before = slot.settings
            slot.settings = {name: str(value) for name, value in call.properties.items()}
            if slot.settings != before:
                slot.restart()
            return self._settings_of(slot, call)

    @staticmethod
    def _settings_of(slot: SiteSlot, call: RestCall) -> Response:
        return reply(_described(slot, call, "config/appsettings", dict(slot.settings)))

    def _sticky_names(self, call: RestCall) -> Response:
        names = sorted(self.sticky_of(call.names["name"]))
        slot = self._find(call)
        return reply(_described(slot, call, "config/slotConfigNames", {"appSettingNames": names}))

    def _put_sticky_names(self, call: RestCall) -> Response:
        self._note(call, "config/write")
        self._find(call)
        self._sticky[call.names["name"].lower()] = set(call.properties.get("appSettingNames") or [])
        return self._sticky_names(call)

    def _config(self, call: RestCall) -> Response:
        slot = self._find(call)
        return reply(_described(slot, call, "config/web", with_config_defaults(slot.config)))

    def _patch_config(self, call: RestCall) -> Response:
        with self._lock:
            self._note(call, "config/write")
            slot, before = self._find(call), dict(self._find(call).config)
            slot.config.update({key: value for key, value in call.properties.items() if value is not None})
            if slot.config != before:
                slot.restart()
        return self._config(call)

    def _policy(self, call: RestCall) -> Response:
        kind = call.names["kind"]
        if kind not in ("scm", "ftp"):
            raise not_found(
                "sites", f"{call.names['name']}/basicPublishingCredentialsPolicies/{kind}", call.names["group"]
            )
        slot = self._find(call)
        return reply(
            _described(slot, call, f"basicPublishingCredentialsPolicies/{kind}", {"allow": slot.policies[kind]})
        )

    def _put_policy(self, call: RestCall) -> Response:
        self._note(call, "basicPublishingCredentialsPolicies/write")
        self._find(call).policies[call.names["kind"]] = bool(call.properties.get("allow"))
        return self._policy(call)


def _described(slot: SiteSlot, call: RestCall, part: str, properties: Json) -> Json:
    """Return a part of a web app or slot as a separate resource."""
    base = call.path.split("/sites/")[0] + f"/sites/{slot.site}"
    path = f"{base}/{part}" if slot.name == PRODUCTION else f"{base}/slots/{slot.name}/{part}"
    shown = {"kind": slot.body.get("kind"), "location": slot.body.get("location"), "properties": properties}
    return {"id": path, "name": part.rpartition("/")[2], "type": resource_type(path), **shown}
