"""Workspaces: themselves, their datastores and computes, and the addresses of their other services."""

from __future__ import annotations

import uuid

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.resources.arm_paths import LOCATION, SCOPE, WORKSPACE
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, malformed, reply, route
from azureml_emulator.storage.azurite import ACCOUNT, KEY
from azureml_emulator.storage.azurite_account import STORAGE_SUFFIX

_SIZES = {"Standard_DS3_v2": (4, 14), "Standard_NC4as_T4_v3": (4, 28), "Standard_NC24ads_A100_v4": (24, 220)}
_COMPUTE_TYPES = ("AmlCompute", "ComputeInstance", "Kubernetes", "AKS")


def workspace(subscription: Subscription, name: str) -> Json:
    """A workspace as the service describes it."""
    path = f"{subscription.url}{subscription.path(name)}"
    group = subscription.scope().split("/providers/")[0]
    return {
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": LOCATION,
        "tags": {},
        "identity": {"type": "SystemAssigned", "principalId": str(uuid.uuid4()), "tenantId": TENANT},
        "properties": {
            "friendlyName": name,
            "workspaceId": str(uuid.uuid4()),
            "discoveryUrl": f"{subscription.url}/discovery",
            "mlFlowTrackingUri": path.replace("https://", "azureml://", 1).replace(
                "/subscriptions/", "/mlflow/v1.0/subscriptions/", 1
            ),
            "provisioningState": "Succeeded",
            "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            "keyVault": f"{group}/providers/Microsoft.KeyVault/vaults/{name}-vault",
            "applicationInsights": f"{group}/providers/Microsoft.insights/components/{name}-insights",
            "containerRegistry": f"{group}/providers/Microsoft.ContainerRegistry/registries/{name}images",
            "publicNetworkAccess": "Enabled",
        },
    }


def datastore(container: str, default: bool) -> Json:
    """A datastore over a container of the storage account."""
    return {
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": ACCOUNT,
            "containerName": container,
            "endpoint": STORAGE_SUFFIX,
            "protocol": "https",
            "isDefault": default,
            "credentials": {"credentialsType": "Sas" if default else "AccountKey"},
            "serviceDataAccessAuthIdentity": "None",
        }
    }


def cluster(size: str) -> Json:
    """A cluster that scales to zero."""
    scale = {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    return {
        "location": LOCATION,
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": LOCATION,
            "provisioningState": "Succeeded",
            "properties": {"vmSize": size, "vmPriority": "Dedicated", "scaleSettings": scale, "currentNodeCount": 0},
        },
    }


class WorkspaceRoutes:
    """The calls about workspaces and what belongs to them."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def routes(self) -> list[Route]:
        """Their paths."""
        before = self._subscription.require_workspace
        locations = "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
        return [
            route(SCOPE + "/workspaces", GET=self._list),
            route(WORKSPACE, before, GET=self._get),
            route("/discovery", GET=self._discover),
            route(WORKSPACE + "/datastores", before, GET=self._list_datastores),
            route(WORKSPACE + "/datastores/{name}", before, GET=self._get, PUT=self._put_datastore, DELETE=self._drop),
            route(WORKSPACE + "/datastores/{name}/listSecrets", before, POST=self._secrets),
            route(WORKSPACE + "/computes", before, GET=self._list),
            route(
                WORKSPACE + "/computes/{name}", before, GET=self._get, PUT=self._put_compute, DELETE=self._drop_compute
            ),
            route(locations + "/usages", GET=self._usages),
            route(locations + "/vmSizes", GET=self._sizes),
        ]

    def _get(self, call: RestCall) -> Response:
        return reply(self._subscription.store.get(call.path).to_dict())

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self._subscription.store.children(call.path), call))

    def _discover(self, call: RestCall) -> Response:
        """Where the services besides the resource manager are."""
        return reply(
            dict.fromkeys(("api", "catalog", "experimentation", "history", "modelmanagement"), self._subscription.url)
        )

    def _list_datastores(self, call: RestCall) -> Response:
        found = self._subscription.store.children(call.path)
        if call.query.get("isDefault", "").lower() == "true":
            found = [item for item in found if item.properties.get("isDefault")]
        return reply(self._subscription.page(found, call))

    def _put_datastore(self, call: RestCall) -> Response:
        if "datastoreType" not in call.properties:
            raise malformed("a datastore needs a datastoreType")
        made, new = self._subscription.store.put(call.path, call.body)
        return reply(made.to_dict(), 201 if new else 200)

    def _secrets(self, call: RestCall) -> Response:
        found = self._subscription.store.get(call.path.removesuffix("/listSecrets"))
        if found.properties["credentials"]["credentialsType"] == "AccountKey":
            return reply({"secretsType": "AccountKey", "key": KEY})
        sas = self._subscription.blobs.signature(str(found.properties["containerName"]), write=True)
        return reply({"secretsType": "Sas", "sasToken": sas})

    def _drop(self, call: RestCall) -> Response:
        return reply(None, 200 if self._subscription.store.delete(call.path) else 204)

    def _put_compute(self, call: RestCall) -> Response:
        if call.properties.get("computeType") not in _COMPUTE_TYPES:
            raise malformed(
                f"computeType {call.properties.get('computeType')!r} is none of {', '.join(_COMPUTE_TYPES)}"
            )
        size = (call.properties.get("properties") or {}).get("vmSize")
        if size is not None and size.lower() not in {name.lower() for name in _SIZES}:
            raise malformed(f"the VM size {size!r} is not available in {LOCATION}")
        made, new = self._subscription.store.put(call.path, call.body)
        made.properties["provisioningState"] = "Creating"
        return self._subscription.operations.start(lambda: self._finish(made), made.to_dict(), 201 if new else 200)

    def _finish(self, made: RestResource) -> Json:
        made.properties.update(provisioningState="Succeeded", computeLocation=made.body.get("location", LOCATION))
        return made.to_dict()

    def _drop_compute(self, call: RestCall) -> Response:
        self._subscription.store.get(call.path)

        def finish() -> None:
            self._subscription.store.delete(call.path)

        return self._subscription.operations.start(finish)

    def _usages(self, call: RestCall) -> Response:
        rows = [
            {
                "id": f"{call.path}/{size}",
                "type": "Microsoft.MachineLearningServices/usages",
                "unit": "Count",
                "currentValue": 0,
                "limit": 24,
                "name": {"value": size, "localizedValue": size},
            }
            for size in _SIZES
        ]
        return reply({"value": rows})

    def _sizes(self, call: RestCall) -> Response:
        rows = [
            {
                "name": name,
                "family": name.rsplit("_", 1)[0],
                "vCPUs": cores,
                "gpus": int("_NC" in name),
                "memoryGB": memory,
                "lowPriorityCapable": True,
                "premiumIO": True,
                "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
            }
            for name, (cores, memory) in _SIZES.items()
        ]
        return reply({"value": rows})
