"""Workspaces, their datastores, and the addresses of their other services."""

from __future__ import annotations

import uuid

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION, SCOPE, WORKSPACE
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route
from azureml_emulator.storage.azurite import ACCOUNT, KEY


def workspace(subscription: Subscription, name: str) -> Json:
    """Return a workspace as the service describes it."""
    path = f"{subscription.addresses.ml}{subscription.path(name)}"
    group = subscription.scope().split("/providers/")[0]
    return {
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": LOCATION,
        "tags": {},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "friendlyName": name,
            "description": "",
            "hbiWorkspace": False,
            "allowPublicAccessWhenBehindVnet": False,
            "privateLinkCount": 0,
            "serviceProvisionedResourceGroup": "",
            "managedNetwork": {"isolationMode": "Disabled"},
            "workspaceId": str(uuid.uuid4()),
            "discoveryUrl": f"{subscription.addresses.ml}/discovery",
            "mlFlowTrackingUri": path.replace("https://", "azureml://", 1).replace(
                "/subscriptions/", "/mlflow/v1.0/subscriptions/", 1
            ),
            "provisioningState": "Succeeded",
            "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            "keyVault": f"{group}/providers/Microsoft.KeyVault/vaults/{name}-vault",
            "applicationInsights": f"{group}/providers/Microsoft.insights/components/{name}-insights",
            "containerRegistry": f"{group}/providers/Microsoft.ContainerRegistry/registries/{name}images",
            "publicNetworkAccess": "Enabled",
            "systemDatastoresAuthMode": "AccessKey",
        },
    }


def datastore(container: str, default: bool, suffix: str) -> Json:
    """Return a datastore on a container of the storage account; ``suffix`` follows ``ACCOUNT.blob.`` in its address."""
    return {
        "properties": {
            "description": None,
            "tags": None,
            "properties": None,
            "datastoreType": "AzureBlob",
            "accountName": ACCOUNT,
            "containerName": container,
            "endpoint": suffix,
            "protocol": "https",
            "isDefault": default,
            "credentials": {"credentialsType": "Sas" if default else "AccountKey"},
            "serviceDataAccessAuthIdentity": "None",
        }
    }


class WorkspaceRoutes:
    """The calls about workspaces and what belongs to them."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def routes(self) -> list[Route]:
        """Return the paths."""
        before = self._subscription.require_workspace
        return [
            route(SCOPE + "/workspaces", GET=self._list),
            route(WORKSPACE, before, GET=self._get),
            route("/discovery", GET=self._discover),
            route(WORKSPACE + "/datastores", before, GET=self._list_datastores),
            route(
                WORKSPACE + "/datastores/{name}",
                before,
                GET=self._get_datastore,
                PUT=self._put_datastore,
                DELETE=self._drop,
            ),
            route(WORKSPACE + "/datastores/{name}/listSecrets", before, POST=self._secrets),
        ]

    def _get(self, call: RestCall) -> Response:
        return reply(self._subscription.store.get(call.path).to_dict())

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self._subscription.store.children(call.path), call))

    def _discover(self, call: RestCall) -> Response:
        """Return the addresses of the services besides the resource manager."""
        return reply(
            dict.fromkeys(
                ("api", "catalog", "experimentation", "history", "modelmanagement"), self._subscription.addresses.ml
            )
        )

    def _list_datastores(self, call: RestCall) -> Response:
        found = self._subscription.store.children(call.path)
        if call.query.get("isDefault", "").lower() == "true":
            found = [item for item in found if item.properties.get("isDefault")]
        return reply(self._subscription.page_of([_without_secrets(item) for item in found], call))

    def _get_datastore(self, call: RestCall) -> Response:
        return reply(_without_secrets(self._subscription.store.get(call.path)))

    def _put_datastore(self, call: RestCall) -> Response:
        if "datastoreType" not in call.properties:
            raise malformed("a datastore needs a datastoreType")
        properties = {"isDefault": False, **call.properties}
        made, new = self._subscription.store.put(call.path, {**call.body, "properties": properties})
        return reply(_without_secrets(made), 201 if new else 200)

    def _secrets(self, call: RestCall) -> Response:
        found = self._subscription.store.get(call.path.removesuffix("/listSecrets"))
        credentials = found.properties.get("credentials") or {}
        if secrets := credentials.get("secrets"):  # secrets for a separate storage account
            return reply(secrets)
        if credentials.get("credentialsType", "None") == "None":
            raise ServiceRefusalError(
                400, "UserError", f"the datastore {found.name!r} has no secrets: it is opened by identity"
            )
        if credentials["credentialsType"] == "AccountKey":
            return reply({"secretsType": "AccountKey", "key": KEY})
        sas = self._subscription.blobs.signature(str(found.properties["containerName"]), write=True)
        return reply({"secretsType": "Sas", "sasToken": sas})

    def _drop(self, call: RestCall) -> Response:
        return reply(None, 200 if self._subscription.store.delete(call.path) else 204)


def _without_secrets(found: RestResource) -> Json:
    """Return a datastore as it is shown: only the kind of its secrets."""
    body = found.to_dict()
    credentials = body["properties"].get("credentials") or {}
    kind = credentials.get("credentialsType")
    if kind not in (None, "None"):
        credentials["secrets"] = {"secretsType": kind}
    return body
