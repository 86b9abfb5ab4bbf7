"""The storage account as Azure Resource Manager sees it: its description, its keys, and whether they are accepted."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION
from azureml_emulator.resources.rest_resources import RestResource, now
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route
from azureml_emulator.storage.azurite import ACCOUNT, KEY

_KIND = "providers/Microsoft.Storage/storageAccounts"
_SWITCH = "allowSharedKeyAccess"
_GIVEN = ("tags", "identity", "sku", "kind")


class StorageAccountRoutes:
    """The calls about the only storage account.

    Args:
        subscription: Keeps it.
        front: Address of the front end that clients use if the account's keys are off.
    """

    def __init__(self, subscription: Subscription, front: Callable[[], str]) -> None:
        self._subscription = subscription
        self._front = front

    def routes(self) -> list[Route]:
        """Return the paths."""
        group = "/subscriptions/{subscription}/resourceGroups/{group}/" + _KIND
        return [
            *(route(path, GET=self._list) for path in ("/subscriptions/{subscription}/" + _KIND, group)),
            route(group + "/{name}", self._require, GET=lambda call: reply(self._described()), PATCH=self._patch),
            route(group + "/{name}/listKeys", self._require, POST=self._list_keys),
        ]

    @property
    def path(self) -> str:
        """Return the account as a resource."""
        subscription = self._subscription
        return f"/subscriptions/{subscription.subscription}/resourceGroups/{subscription.group}/{_KIND}/{ACCOUNT}"

    def restore(self) -> None:
        """Restore the rule about keys of an earlier process."""
        self._subscription.blobs.gate.allowed = self._kept().properties[_SWITCH] is not False

    def allow_shared_keys(self, allowed: bool) -> None:
        """Accept the account's keys, or only tokens; in that case, the workspaces do not know its keys either."""
        subscription, blobs = self._subscription, self._subscription.blobs
        self._kept().properties[_SWITCH] = blobs.gate.allowed = allowed
        blobs.front = "" if allowed else self._front()
        if allowed:
            return
        for workspace in subscription.store.children(f"{subscription.scope()}/workspaces"):
            workspace.properties.update(systemDatastoresAuthMode="Identity")
            for store in subscription.store.children(f"{workspace.id}/datastores"):
                store.properties.update(
                    credentials={"credentialsType": "None"},
                    serviceDataAccessAuthIdentity="WorkspaceSystemAssignedIdentity",
                )

    def _require(self, call: RestCall) -> None:
        if call.names["name"].lower() != ACCOUNT:
            what = f"Microsoft.Storage/storageAccounts/{call.names['name']}"
            message = f"The Resource '{what}' under resource group '{call.names['group']}' was not found."
            raise ServiceRefusalError(404, "ResourceNotFound", message)

    def _kept(self) -> RestResource:
        return self._subscription.store.keep(self.path, self._new())

    def _new(self) -> Json:
        moment = now()
        service = {"keyType": "Account", "enabled": True, "lastEnabledTime": moment}
        blob = f"https://{ACCOUNT}.blob.{self._subscription.addresses.storage_suffix}/"
        properties: Json = {
            _SWITCH: True,
            "keyCreationTime": {"key1": moment, "key2": moment},
            "creationTime": moment,
            "isHnsEnabled": False,
            "allowBlobPublicAccess": False,
            "minimumTlsVersion": "TLS1_2",
            "supportsHttpsTrafficOnly": True,
            "networkAcls": {
                "bypass": "AzureServices",
                "defaultAction": "Allow",
                "ipRules": [],
                "virtualNetworkRules": [],
                "resourceAccessRules": [],
            },
            "encryption": {"services": {"blob": service, "file": service}, "keySource": "Microsoft.Storage"},
            "primaryEndpoints": {"blob": blob},
            "primaryLocation": LOCATION,
            "statusOfPrimary": "available",
            "isSkuConversionBlocked": False,
            "accountMigrationInProgress": False,
            "provisioningState": "Succeeded",
        }
        sku = {"name": "Standard_LRS", "tier": "Standard"}
        return {"location": LOCATION, "kind": "StorageV2", "sku": sku, "tags": {}, "properties": properties}

    def _described(self) -> Json:
        body = self._kept().to_dict()
        body.pop("systemData")
        return body

    def _list(self, call: RestCall) -> Response:
        return reply({"value": [self._described()]})

    def _patch(self, call: RestCall) -> Response:
        """Apply the settings; only the one about keys changes what the account does."""
        given: Json = call.body.get("properties") or {}
        allowed = given.get(_SWITCH)
        if allowed is not None and not isinstance(allowed, bool):
            raise malformed(f"{_SWITCH} is {allowed!r}: it must be true or false")
        kept = self._kept()
        kept.body.update({key: call.body[key] for key in _GIVEN if call.body.get(key) is not None})
        _merge(kept.properties, given)
        if allowed is not None:
            self.allow_shared_keys(allowed)
        return reply(self._described())

    def _list_keys(self, call: RestCall) -> Response:
        moment = self._kept().properties["creationTime"]
        common = {"permissions": "Full", "value": KEY, "creationTime": moment}
        return reply({"keys": [{"keyName": name, **common} for name in ("key1", "key2")]})


def _merge(kept: Json, given: Json) -> None:
    """Apply what is given, field by field in objects."""
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(kept.get(key), dict):
            _merge(kept[key], value)
        elif value is not None:
            kept[key] = value
