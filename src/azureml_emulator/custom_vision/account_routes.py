"""The accounts of Custom Vision as Azure Resource Manager sees them: descriptions, keys, and deleted accounts.

A deleted account keeps its name and its content until it is purged.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION
from azureml_emulator.resources.rest_resources import RestResource, now
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, reply, route

TRAINING, PREDICTION = "CustomVision.Training", "CustomVision.Prediction"
_PROVIDER = "providers/Microsoft.CognitiveServices"
_ONE = "/subscriptions/{subscription}"
_GROUP = _ONE + "/resourceGroups/{group}/" + _PROVIDER
_DELETED = _ONE + "/" + _PROVIDER + "/locations/{location}/resourceGroups/{group}/deletedAccounts/{account}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,63}")
_SUBDOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,61}[A-Za-z0-9]")
_WORDS = {"publicNetworkAccess": ("Enabled", "Disabled")}
_FLAGS = ("disableLocalAuth", "restrictOutboundNetworkAccess", "dynamicThrottlingEnabled", "restore")


class VisionAccounts:
    """The calls about accounts.

    Args:
        subscription: Keeps them.
        skus: Names of the pricing tiers.
        forget: Called with the id of a purged account.
    """

    def __init__(self, subscription: Subscription, skus: tuple[str, ...], forget: Callable[[str], None]) -> None:
        self._subscription = subscription
        self._store = subscription.store
        self._skus = skus
        self._forget = forget

    def routes(self) -> list[Route]:
        """Return the paths."""
        one = _GROUP + "/accounts/{account}"
        return [
            route(_GROUP + "/accounts", GET=self._list),
            route(_ONE + "/" + _PROVIDER + "/accounts", self._require_place, GET=self._list),
            route(one, GET=self._get, PUT=self._put, PATCH=self._patch, DELETE=self._delete),
            route(one + "/listKeys", POST=self._list_keys),
            route(one + "/regenerateKey", POST=self._regenerate_key),
            route(_ONE + "/" + _PROVIDER + "/deletedAccounts", self._require_place, GET=self._list_deleted),
            route(_DELETED, self._require_place, GET=self._get_deleted, DELETE=self._purge),
            route(_ONE + "/" + _PROVIDER + "/checkDomainAvailability", self._require_place, POST=self._check_domain),
        ]

    def all(self) -> list[RestResource]:
        """Return every account, oldest first."""
        names = {"subscription": self._subscription.subscription, "group": self._subscription.group}
        return self._store.children(_GROUP.format_map(names) + "/accounts")

    def add(self, name: str, kind: str) -> None:
        """Create an account of the pricing tier S0 whose subdomain is its name."""
        path = f"{_GROUP}/accounts/{name}".format(
            subscription=self._subscription.subscription, group=self._subscription.group
        )
        properties = {"customSubDomainName": name, "provisioningState": "Succeeded", **_born()}
        body = {"kind": kind, "sku": {"name": "S0"}, "location": LOCATION, "tags": {}, "properties": properties}
        made, _ = self._store.put(path, body)
        self.keys(made)

    def named(self, host: str) -> list[RestResource]:
        """Return the accounts that a host stands for: one with a subdomain, or all of a region, ``REGION.api``."""
        region = host.lower().removesuffix(".api") if host.lower().endswith(".api") else ""
        return [item for item in self.all() if _matches(item, host.lower(), region)]

    def keys(self, account: RestResource) -> tuple[str, str]:
        """Return its two keys."""
        kept = self._store.keep(self._key_path(account), {"properties": {"key1": _new_key(), "key2": _new_key()}})
        return str(kept.properties["key1"]), str(kept.properties["key2"])

    def endpoint(self, account: RestResource) -> str:
        """Return its address, with a slash at the end."""
        subdomain = str(account.properties.get("customSubDomainName") or "")
        return f"{self._subscription.addresses.vision(subdomain, _region(account.body))}/"

    def _require_place(self, call: RestCall) -> None:
        self._subscription.require_place(call.path)

    @staticmethod
    def _key_path(account: RestResource) -> str:
        return f"/emulator/keys/cognitiveservices/{account.name}"

    def _find(self, call: RestCall) -> RestResource:
        path = f"{_GROUP}/accounts/{{account}}".format_map(call.names)
        found = self._store.find(path)
        if found is None:
            message = (
                f"The Resource 'Microsoft.CognitiveServices/accounts/{call.names['account']}' under resource group"
                f" '{call.names['group']}' was not found."
            )
            raise ServiceRefusalError(404, "ResourceNotFound", message)
        return found

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page_of([self._shown(item) for item in self.all()], call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._shown(self._find(call)))

    def _put(self, call: RestCall) -> Response:
        kept = self._store.find(call.path)
        given: Json = call.body.get("properties") or {}
        self._check(call, given, kept)
        path = _DELETED.format_map({**call.names, "location": _region(call.body)})
        deleted = self._store.find(path)
        restored = deleted.properties if deleted is not None else {}
        if deleted is not None and given.get("restore") is not True:
            message = (
                f"The resource {call.path!r} has been soft-deleted. Set 'restore' to true in its properties to recover it,"
                " or purge it first."
            )
            raise ServiceRefusalError(409, "FlagMustBeSetForRestore", message)
        former = kept.properties if kept is not None else restored
        written = {name: value for name, value in given.items() if value is not None and name != "restore"}
        body = {name: call.body[name] for name in ("kind", "sku", "location", "identity") if call.body.get(name)}
        body["tags"] = call.body.get("tags") or {}
        body["properties"] = {**_born(), **former, **written}
        body["properties"]["provisioningState"] = "Creating" if kept is None else "Updating"
        if deleted is not None:
            self._store.delete(path)
        made, new = self._store.put(call.path, body)
        self.keys(made)

        def finish() -> Json:
            made.properties["provisioningState"] = "Succeeded"
            return self._shown(made)

        return self._subscription.operations.start(finish, self._shown(made), 201 if new else 200)

    def _check(self, call: RestCall, given: Json, kept: RestResource | None) -> None:
        """Refuse an invalid account. Raises ServiceRefusalError."""
        name, kind, sku = call.names["account"], call.body.get("kind"), (call.body.get("sku") or {}).get("name")
        if not _NAME.fullmatch(name):
            message = (
                f"The account name {name!r} must have 2 to 64 letters, digits, '.', '_' and '-', and no mark first."
            )
            raise ServiceRefusalError(400, "AccountNameInvalid", message)
        if not call.body.get("location"):
            raise ServiceRefusalError(400, "LocationRequired", "The location property is required for this definition.")
        if kind not in (TRAINING, PREDICTION):
            message = f"The account type {kind!r} is not emulated; {TRAINING} and {PREDICTION} are."
            raise ServiceRefusalError(400, "InvalidApiSetId", message)
        if kept is not None and kept.body["kind"] != kind:
            raise ServiceRefusalError(
                400, "BadRequest", f"The kind of {name} is {kept.body['kind']} and cannot be changed."
            )
        self._check_properties(given, call.path, kept)
        self._check_sku(sku, str(kind), call.path)

    def _check_sku(self, sku: object, kind: str, path: str) -> None:
        if sku not in self._skus:
            message = f"The SKU {sku!r} of the account is invalid; {' and '.join(self._skus)} are valid for {kind}."
            raise ServiceRefusalError(400, "InvalidSkuId", message)
        others = [item for item in self.all() if item.id.lower() != path.lower() and item.body["kind"] == kind]
        if sku == "F0" and any(item.body["sku"]["name"] == "F0" for item in others):
            message = f"Only one free account is allowed for the account type {kind!r}."
            raise ServiceRefusalError(409, "CanNotCreateMultipleFreeAccounts", message)

    def _check_properties(self, given: Json, path: str, kept: RestResource | None) -> None:
        for name in _FLAGS:
            if not isinstance(given.get(name), (bool, type(None))):
                raise ServiceRefusalError(400, "BadRequest", f"{name} is {given[name]!r}; it must be true or false.")
        for name, words in _WORDS.items():
            if given.get(name) not in (None, *words):
                message = f"{name} is {given[name]!r}; it must be one of {', '.join(words)}."
                raise ServiceRefusalError(400, "BadRequest", message)
        subdomain = str(given.get("customSubDomainName") or "")
        former = str(kept.properties.get("customSubDomainName") or "") if kept is not None else ""
        if subdomain and not _SUBDOMAIN.fullmatch(subdomain):
            message = f"The subdomain {subdomain!r} must have 2 to 63 letters, digits and '-', and no '-' at its ends."
            raise ServiceRefusalError(400, "BadRequest", message)
        if former and subdomain and former.lower() != subdomain.lower():
            raise ServiceRefusalError(400, "BadRequest", f"The subdomain {former!r} cannot be changed.")
        if subdomain and self._is_taken(subdomain, path):
            message = f"The subdomain {subdomain!r} is already used. Choose another one."
            raise ServiceRefusalError(409, "CustomDomainInUse", message)

    def _is_taken(self, subdomain: str, path: str = "") -> bool:
        deleted = self._deleted()
        here = [*self.all(), *deleted]
        own = {
            path.lower(),
            *(item.id.lower() for item in deleted if item.name.lower() == path.rpartition("/")[2].lower()),
        }
        taken = {str(item.properties.get("customSubDomainName")).lower() for item in here if item.id.lower() not in own}
        return subdomain.lower() in taken | {name.lower() for name in self._subscription.limits.taken}

    def _patch(self, call: RestCall) -> Response:
        kept, given = self._find(call), call.body.get("properties") or {}
        if sku := (call.body.get("sku") or {}).get("name"):
            self._check_sku(sku, kept.body["kind"], kept.id)
        self._check_properties(given, kept.id, kept)
        kept.body.update(
            {name: call.body[name] for name in ("tags", "sku", "identity") if call.body.get(name) is not None}
        )
        kept.properties.update({name: value for name, value in given.items() if value is not None})
        kept.modified = now()
        shown = self._shown(kept)
        return self._subscription.operations.start(lambda: shown, shown, 202)

    def _delete(self, call: RestCall) -> Response:
        kept = self._store.find(call.path)
        if kept is None:
            return reply(None, 204)
        path = _DELETED.format_map({**call.names, "location": _region(kept.body)})
        deleted, _ = self._store.put(path, kept.body)
        deleted.properties["deletionDate"] = now()
        self._store.delete(kept.id)
        return reply()

    def _list_keys(self, call: RestCall) -> Response:
        account = self._find(call)
        if account.properties.get("disableLocalAuth"):
            raise ServiceRefusalError(400, "BadRequest", "The keys cannot be listed: disableLocalAuth is true.")
        key1, key2 = self.keys(account)
        return reply({"key1": key1, "key2": key2})

    def _regenerate_key(self, call: RestCall) -> Response:
        account, name = self._find(call), str(call.body.get("keyName") or "").lower()
        if name not in ("key1", "key2"):
            raise ServiceRefusalError(
                400, "BadRequest", f"keyName is {call.body.get('keyName')!r}; it must be Key1 or Key2."
            )
        self.keys(account)
        self._store.get(self._key_path(account)).properties[name] = _new_key()
        return self._list_keys(call)

    def _deleted(self) -> list[RestResource]:
        start = f"{_ONE}/{_PROVIDER}/locations".format(subscription=self._subscription.subscription)
        return [item for item in self._store.below(start) if "/deletedaccounts/" in item.id.lower()]

    def _list_deleted(self, call: RestCall) -> Response:
        return reply(self._subscription.page_of([self._shown(item) for item in self._deleted()], call))

    def _find_deleted(self, call: RestCall) -> RestResource:
        path = _DELETED.format_map({**call.names, "location": _region(call.names)})
        found = self._store.find(path)
        if found is None:
            raise ServiceRefusalError(
                404, "ResourceNotFound", f"The deleted account {call.names['account']!r} was not found."
            )
        return found

    def _get_deleted(self, call: RestCall) -> Response:
        return reply(self._shown(self._find_deleted(call)))

    def _purge(self, call: RestCall) -> Response:
        found = self._find_deleted(call)
        self._store.delete(found.id)
        self._store.delete(self._key_path(found))
        self._forget(f"{_GROUP}/accounts/{{account}}".format_map(call.names))
        return reply()

    def _check_domain(self, call: RestCall) -> Response:
        name = str(call.body.get("subdomainName") or "")
        free = bool(_SUBDOMAIN.fullmatch(name)) and not self._is_taken(name)
        reason = None if free else f"The subdomain {name!r} is already used, or not valid."
        found = {"isSubdomainAvailable": free, "reason": reason, "subdomainName": name}
        return reply({**found, "type": "Microsoft.CognitiveServices/accounts", "kind": call.body.get("kind")})

    def _shown(self, account: RestResource) -> Json:
        body = account.to_dict()
        properties: Json = body["properties"]
        endpoint = self.endpoint(account)
        common = {
            "endpoint": endpoint, "endpoints": {body["kind"]: endpoint}, "publicNetworkAccess": "Enabled",
            "disableLocalAuth": False, "privateEndpointConnections": [], "isMigrated": True, "capabilities": [],
        }  # fmt: skip
        body["properties"] = {**common, **properties}
        return {**body, "type": "Microsoft.CognitiveServices/accounts", "etag": f'"{account.modified}"'}


def _region(body: Mapping[str, Any]) -> str:
    return str(body.get("location") or "").replace(" ", "").lower()


def _matches(account: RestResource, host: str, region: str) -> bool:
    subdomain = str(account.properties.get("customSubDomainName") or "").lower()
    return _region(account.body) == region if region else subdomain == host


def _born() -> Json:
    return {"dateCreated": now(), "internalId": secrets.token_hex(16)}


def _new_key() -> str:
    return secrets.token_hex(16)
