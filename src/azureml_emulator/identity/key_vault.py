"""A key vault: secrets with versions, and deleted secrets, which keep their name until they are recovered.

It is at the root of its address, as a vault is.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import TENANT, check
from azureml_emulator.rest.cloud_addresses import CloudAddresses
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, missing, reply, route

_ACTIONS = {"GET": "get", "PUT": "set", "DELETE": "delete", "POST": "recover"}
_MARKS = ("attributes", "contentType", "tags")
_MOMENT = 1_700_000_000


class KeyVault:
    """The calls about secrets. Tests read :attr:`secrets` (values by name, oldest first) and may :meth:`deny` actions.

    Args:
        addresses: Addresses of the vault and of the sign-in.
        allows: Returns whether a role of the caller, by the claims of the token, allows an action on secrets.
    """

    def __init__(self, addresses: Callable[[], CloudAddresses], allows: Callable[[Json, str], bool]) -> None:
        self._addresses = addresses
        self._allows = allows
        self._lock = threading.Lock()
        self.secrets: dict[str, list[tuple[str, str]]] = {}
        self._marks: dict[str, Json] = {}
        self.deleted: dict[str, list[tuple[str, str]]] = {}
        self._denied: set[str] = set()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.secrets, self.deleted, self._denied, self._marks = {}, {}, set(), {}

    def to_kept(self) -> Json:
        """Return its whole state as JSON."""
        with self._lock:
            return {
                kind: {name: [list(item) for item in items] for name, items in kept.items()}
                for kind, kept in (("secrets", self.secrets), ("deleted", self.deleted))
            }

    def take(self, kept: Json) -> None:
        """Restore what :meth:`to_kept` returned."""
        for kind, held in (("secrets", self.secrets), ("deleted", self.deleted)):
            held.update({name: [(item[0], item[1]) for item in items] for name, items in kept[kind].items()})

    def _base_url(self) -> str:
        return self._addresses().vault

    def deny(self, *actions: str) -> None:
        """Refuse actions from now on: get, set, delete, recover; with none, allow all again."""
        self._denied = set(actions)

    def values(self) -> set[str]:
        """Return every value that was ever kept."""
        kept = [*self.secrets.values(), *self.deleted.values()]
        return {value for versions in kept for _, value in versions}

    def value_at(self, address: str) -> str | None:
        """Return the value of a secret by its address, as references in settings give it; None if it is missing."""
        name, _, version = address.partition("/secrets/")[2].strip("/").partition("/")
        with self._lock:
            versions = self.secrets.get(name.lower(), [])
        found = [value for number, value in versions if version in ("", number)]
        return found[-1] if found and address.startswith(f"{self._base_url()}/") else None

    def routes(self) -> list[Route]:
        """Return the paths."""
        before = self._authorise
        return [
            route("/secrets", before, GET=self._list),
            route("/secrets/{name}", before, GET=self._get, PUT=self._set, DELETE=self._delete),
            route("/secrets/{name}/", before, GET=self._get),
            route("/secrets/{name}/{version}", before, GET=self._get),
            route("/deletedsecrets/{name}", before, GET=self._get_deleted),
            route("/deletedsecrets/{name}/recover", before, POST=self._recover),
        ]

    def _authorise(self, call: RestCall) -> None:
        addresses = self._addresses()
        resource = addresses.vault_resource
        try:
            claims = check(call.headers.get("authorization", ""), (resource,))
        except ServiceRefusalError as refusal:
            challenge = f'Bearer authorization="{addresses.login}/{TENANT}", resource="{resource}"'
            raise ServiceRefusalError(
                401, "Unauthorized", refusal.message, {"WWW-Authenticate": challenge}
            ) from refusal
        action = _ACTIONS[call.method]
        full = f"Microsoft.KeyVault/vaults/secrets/{action}Secret/action"
        if action not in self._denied and self._allows(claims, full):
            return
        message = f"Caller is not authorized to perform action on resource. Action: '{full}' Assignment: (not found)"
        raise ServiceRefusalError(403, "Forbidden", message)

    def _versions(self, name: str) -> list[tuple[str, str]]:
        found = self.secrets.get(name.lower())
        if found is None:
            message = f"A secret with (name/id) {name} was not found in this key vault."
            raise ServiceRefusalError(404, "SecretNotFound", message)
        return found

    def _list(self, call: RestCall) -> Response:
        with self._lock:
            return reply({"value": [self._described(name, versions[-1]) for name, versions in self.secrets.items()]})

    def _get(self, call: RestCall) -> Response:
        with self._lock:
            versions = self._versions(call.names["name"])
            wanted = call.names.get("version", "") or versions[-1][0]
            for item in versions:
                if item[0] == wanted:
                    return reply({**self._described(call.names["name"], item), "value": item[1]})
        raise missing(f"version {wanted!r} of secret {call.names['name']!r}")

    def _set(self, call: RestCall) -> Response:
        name = call.names["name"]
        if not isinstance(call.body.get("value"), str):
            raise ServiceRefusalError(400, "BadParameter", "Property value is required.")
        with self._lock:
            if name.lower() in self.deleted:
                message = (
                    f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused"
                )
                raise ServiceRefusalError(409, "Conflict", message)
            item = (uuid.uuid4().hex, call.body["value"])
            self._marks[item[0]] = {key: call.body[key] for key in _MARKS if call.body.get(key)}
            self.secrets.setdefault(name.lower(), []).append(item)
            return reply({**self._described(name, item), "value": item[1]})

    def _delete(self, call: RestCall) -> Response:
        with self._lock:
            versions = self._versions(call.names["name"])
            self.deleted[call.names["name"].lower()] = versions
            del self.secrets[call.names["name"].lower()]
            return reply(self._bundle(call.names["name"], versions[-1]))

    def _get_deleted(self, call: RestCall) -> Response:
        with self._lock:
            return reply(self._bundle(call.names["name"], self._deleted_versions(call)[-1]))

    def _recover(self, call: RestCall) -> Response:
        with self._lock:
            versions = self._deleted_versions(call)
            self.secrets[call.names["name"].lower()] = versions
            del self.deleted[call.names["name"].lower()]
            return reply(self._described(call.names["name"], versions[-1]))

    def _deleted_versions(self, call: RestCall) -> list[tuple[str, str]]:
        found = self.deleted.get(call.names["name"].lower())
        if found is None:
            raise ServiceRefusalError(404, "SecretNotFound", f"Deleted Secret not found: {call.names['name']}")
        return found

    def _described(self, name: str, item: tuple[str, str]) -> Json:
        dates = {"enabled": True, "created": _MOMENT, "updated": _MOMENT, "recoveryLevel": "Recoverable+Purgeable"}
        marks = self._marks.get(item[0], {})
        attributes = {**marks.get("attributes", {}), **dates}
        return {"id": f"{self._base_url()}/secrets/{name}/{item[0]}", "tags": {}, **marks, "attributes": attributes}

    def _bundle(self, name: str, item: tuple[str, str]) -> Json:
        dates = {"deletedDate": _MOMENT, "scheduledPurgeDate": _MOMENT}
        return {**self._described(name, item), "recoveryId": f"{self._base_url()}/deletedsecrets/{name}", **dates}
