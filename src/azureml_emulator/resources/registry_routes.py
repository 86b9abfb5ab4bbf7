"""Registries: assets that several workspaces share, with separate storage."""

from __future__ import annotations

import re

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.resources.arm_paths import LOCATION, PROVIDER, SCOPE, SUBSCRIPTION
from azureml_emulator.resources.asset_routes import AssetRoutes
from azureml_emulator.resources.datastore_addresses import OutputAddresses, datastore_path
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, missing, reply, route
from azureml_emulator.storage.azurite import ACCOUNT

_ARM = SCOPE + "/registries/{registry}"
# The SDK talks to a registry's own region, not to the resource manager.
_REGION = "/mferp/managementfrontend" + _ARM
_WORKSPACE_ASSET = re.compile(r"azureml://locations/[^/]+/workspaces/([^/]+)/(\w+)/([^/]+)/versions/([^/]+)")


def registry(name: str) -> Json:
    """Return a registry as the service describes it."""
    group = f"/subscriptions/{SUBSCRIPTION}"
    return {
        "location": LOCATION,
        "kind": None,
        "sku": {"name": "Basic", "tier": "Basic"},
        "tags": {},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "description": "",
            "tags": {},
            "publicNetworkAccess": "Enabled",
            "discoveryUrl": f"/registrymanagement/v1.0/registries/{name}/discovery",
            "intellectualPropertyPublisher": None,
            "managedResourceGroup": {"resourceId": f"{group}/resourceGroups/{name}-managed"},
            "mlFlowRegistryUri": f"azureml://{LOCATION}.api.azureml.ms/mlflow/v1.0/registries/{name}",
            "privateLinkCount": 0,
            "regionDetails": [
                {
                    "location": LOCATION,
                    "acrDetails": [
                        {
                            "systemCreatedAcrAccount": {
                                "acrAccountName": f"{name}images",
                                "acrAccountSku": "Premium",
                                "armResourceId": {
                                    "resourceId": f"{group}/resourceGroups/{name}-managed/providers"
                                    f"/Microsoft.ContainerRegistry/registries/{name}images"
                                },
                            }
                        }
                    ],
                    "storageAccountDetails": [
                        {
                            "systemCreatedStorageAccount": {
                                "storageAccountName": ACCOUNT,
                                "storageAccountType": "Standard_LRS",
                                "storageAccountHnsEnabled": False,
                                "armResourceId": {
                                    "resourceId": f"{group}/resourceGroups/{name}-managed/providers"
                                    f"/Microsoft.Storage/storageAccounts/{ACCOUNT}"
                                },
                            }
                        }
                    ],
                }
            ],
        },
    }


class RegistryRoutes:
    """The calls about registries and their content."""

    def __init__(self, subscription: Subscription, jobs: OutputAddresses) -> None:
        self._subscription = subscription
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            route(SCOPE + "/registries", GET=self._list),
            route("/subscriptions/{subscription}/" + PROVIDER + "/registries", GET=self._list_all),
            route(_ARM, GET=self._get),
            route("/registrymanagement/v1.0/registries/{registry}/discovery", GET=self._discover),
            route(_REGION + "/tempdatarefs/{name}/versions/{version}", self._require, PUT=self._begin_upload),
            route(_REGION + "/datarefs/{name}/versions/{version}", self._require, POST=self._reference),
            route(_REGION + "/import", self._require, POST=self._import),
            *AssetRoutes(self._subscription, self._jobs, _REGION, self._require, long_running=True).routes(),
        ]

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self._subscription.store.children(call.path), call))

    def _list_all(self, call: RestCall) -> Response:
        subscription = self._subscription
        return reply(subscription.page(subscription.store.children(f"{subscription.scope()}/registries"), call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._subscription.store.get(call.path).to_dict())

    def _discover(self, call: RestCall) -> Response:
        name = call.names["registry"]
        self._subscription.store.get(f"{self._subscription.scope()}/registries/{name}", f"registry {name!r}")
        return reply(
            {
                "registryName": name,
                "tenantId": TENANT,
                "primaryRegion": LOCATION,
                "regions": [LOCATION],
                "subscriptionId": self._subscription.subscription,
                "resourceGroup": self._subscription.group,
                "workspaceName": "",
                "primaryRegionResourceProviderUri": f"{self._subscription.addresses.ml}/",
                "registryFqdns": {LOCATION: {"registryFqdns": []}},
            }
        )

    def _require(self, call: RestCall) -> None:
        name = call.names["registry"]
        if self._subscription.store.find(f"{self._subscription.scope()}/registries/{name}") is None:
            raise missing(f"registry {name!r}")

    def _container(self, call: RestCall) -> str:
        kept = self._subscription.store.get(f"/emulator/containers/registries/{call.names['registry']}")
        return str(kept.properties["container"])

    def _begin_upload(self, call: RestCall) -> Response:
        """Return the address for the files of a new version; an existing version accepts none."""
        kind = str(call.body.get("assetId", "")).split("/")[-4:-3]
        name, version = call.names["name"], call.names["version"]
        if not kind:
            raise malformed("assetId does not say what the asset is")
        path = f"{call.path.split('/tempdatarefs/')[0]}/{kind[0]}/{name}/versions/{version}"
        if self._subscription.store.find(path) is not None:
            raise ServiceRefusalError(
                409, "UserError", f"{kind[0]} {name!r} version {version!r} already exists in the registry"
            )
        container = self._subscription.blobs.make_container("upload")
        return reply(self._blob(self._subscription.blobs.url(container), container, write=True))

    def _reference(self, call: RestCall) -> Response:
        """Return a signed address to read the files of a version."""
        container, path = self._subscription.blobs.split(str(call.body.get("blobUri")))
        return reply(self._blob(self._subscription.blobs.url(container, path), container, write=False))

    def _blob(self, uri: str, container: str, *, write: bool) -> Json:
        credential = {"credentialType": "SAS", "sasUri": self._subscription.blobs.signed(container, write=write)}
        return {
            "blobReferenceForConsumption": {"blobUri": uri, "storageAccountArmId": "", "credential": credential},
            "temporaryDataReferenceId": container,
            "temporaryDataReferenceType": "TemporaryBlobReference",
        }

    def _import(self, call: RestCall) -> Response:
        """Copy an asset of a workspace, with its files."""
        source = str(call.properties.get("sourceAssetId") or "")
        found = _WORKSPACE_ASSET.fullmatch(source)
        if found is None:
            raise malformed(f"sourceAssetId {source!r} does not name an asset of a workspace")
        guid, kind, name, version = found.groups()
        workspace = self._workspace(guid)
        asset = self._subscription.store.get(f"{workspace.id}/{kind}/{name}/versions/{version}")
        new_name, new_version = (
            call.properties.get("destinationName") or name,
            call.properties.get("destinationVersion") or version,
        )
        path = f"{call.path.removesuffix('/import')}/{kind}/{new_name}/versions/{new_version}"
        if self._subscription.store.find(path) is not None:
            raise ServiceRefusalError(
                409, "UserError", f"{kind} {new_name!r} version {new_version!r} already exists in the registry"
            )
        container = self._container(call)
        # The SDK considers a response with content a failure, so there is none at the end.
        return self._subscription.operations.start(lambda: self._copy(asset, workspace, path, container))

    def _workspace(self, guid: str) -> RestResource:
        for item in self._subscription.store.children(f"{self._subscription.scope()}/workspaces"):
            if item.properties["workspaceId"] == guid:
                return item
        raise missing(f"the workspace with the id {guid}")

    def _copy(self, asset: RestResource, workspace: RestResource, path: str, container: str) -> None:
        body = asset.to_dict()
        properties = {**body["properties"], "isArchived": False}
        for key in ("modelUri", "dataUri"):
            if key in properties:
                store, source = datastore_path(properties[key])
                target = path.split("/registries/")[1].partition("/")[2]
                self._subscription.blobs.copy(
                    self._subscription.container(store, workspace.name), source, container, f"{target}/{_last(source)}"
                )
                properties[key] = self._subscription.blobs.public_url(container, f"{target}/{_last(source)}")
        self._subscription.store.put(path, {"properties": properties})


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
