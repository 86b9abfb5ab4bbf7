"""Registries: assets that several workspaces share, with storage of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route
from testing.fakes.assets import Assets
from testing.fakes.calls import Call, Json, RefusalError, malformed, missing, reply, route
from testing.fakes.cloud import LOCATION, SCOPE, Cloud
from testing.fakes.credential import TENANT
from testing.fakes.outputs import datastore_path

if TYPE_CHECKING:
    from testing.fakes.store import Resource

_ARM = SCOPE + "/registries/{registry}"
# The SDK talks to a registry's own region, not to the resource manager.
_REGION = "/mferp/managementfrontend" + _ARM
_WORKSPACE_ASSET = re.compile(r"azureml://locations/[^/]+/workspaces/([^/]+)/(\w+)/([^/]+)/versions/([^/]+)")


def registry(name: str) -> Json:
    """A registry as the service describes it."""
    return {
        "type": "Microsoft.MachineLearningServices/registries",
        "location": LOCATION,
        "tags": {},
        "identity": {"type": "SystemAssigned", "tenantId": TENANT},
        "properties": {
            "publicNetworkAccess": "Enabled",
            "discoveryUrl": f"/registrymanagement/v1.0/registries/{name}/discovery",
            "regionDetails": [{"location": LOCATION, "acrDetails": [], "storageAccountDetails": []}],
        },
    }


class Registries:
    """The calls about registries and what is in them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def routes(self) -> list[Route]:
        """Their paths."""
        return [
            route(SCOPE + "/registries", GET=self._list),
            route(_ARM, GET=self._get),
            route("/registrymanagement/v1.0/registries/{registry}/discovery", GET=self._discover),
            route(_REGION + "/tempdatarefs/{name}/versions/{version}", self._require, PUT=self._begin_upload),
            route(_REGION + "/datarefs/{name}/versions/{version}", self._require, POST=self._reference),
            route(_REGION + "/import", self._require, POST=self._import),
            *Assets(self._cloud, _REGION, self._require, long_running=True).routes(),
        ]

    def _list(self, call: Call) -> Response:
        return reply(self._cloud.page(self._cloud.store.children(call.path), call))

    def _get(self, call: Call) -> Response:
        return reply(self._cloud.store.get(call.path).to_dict())

    def _discover(self, call: Call) -> Response:
        name = call.names["registry"]
        self._cloud.store.get(f"{self._cloud.scope()}/registries/{name}", f"registry {name!r}")
        return reply(
            {
                "registryName": name,
                "tenantId": TENANT,
                "primaryRegion": LOCATION,
                "regions": [LOCATION],
                "subscriptionId": self._cloud.subscription,
                "resourceGroup": self._cloud.group,
                "workspaceName": "",
                "primaryRegionResourceProviderUri": f"{self._cloud.url}/",
                "registryFqdns": {LOCATION: {"registryFqdns": []}},
            }
        )

    def _require(self, call: Call) -> None:
        name = call.names["registry"]
        if self._cloud.store.find(f"{self._cloud.scope()}/registries/{name}") is None:
            raise missing(f"registry {name!r}")

    def _container(self, call: Call) -> str:
        return self._cloud.containers[f"registries/{call.names['registry']}"]

    def _begin_upload(self, call: Call) -> Response:
        """Where the files of a new version go; a version that is there already takes none."""
        kind = str(call.body.get("assetId", "")).split("/")[-4:-3]
        name, version = call.names["name"], call.names["version"]
        if not kind:
            raise malformed("assetId does not say what the asset is")
        path = f"{call.path.split('/tempdatarefs/')[0]}/{kind[0]}/{name}/versions/{version}"
        if self._cloud.store.find(path) is not None:
            raise RefusalError(
                409, "UserError", f"{kind[0]} {name!r} version {version!r} already exists in the registry"
            )
        container = self._cloud.blobs.make_container("upload")
        return reply(self._blob(self._cloud.blobs.url(container), container, write=True))

    def _reference(self, call: Call) -> Response:
        """A signed address to read the files of a version."""
        container, path = self._cloud.blobs.split(str(call.body.get("blobUri")))
        return reply(self._blob(self._cloud.blobs.url(container, path), container, write=False))

    def _blob(self, uri: str, container: str, *, write: bool) -> Json:
        credential = {"credentialType": "SAS", "sasUri": self._cloud.blobs.signed(container, write=write)}
        return {
            "blobReferenceForConsumption": {"blobUri": uri, "storageAccountArmId": "", "credential": credential},
            "temporaryDataReferenceId": container,
            "temporaryDataReferenceType": "TemporaryBlobReference",
        }

    def _import(self, call: Call) -> Response:
        """Copy an asset of a workspace, with its files."""
        source = str(call.properties.get("sourceAssetId") or "")
        found = _WORKSPACE_ASSET.fullmatch(source)
        if found is None:
            raise malformed(f"sourceAssetId {source!r} names no asset of a workspace")
        guid, kind, name, version = found.groups()
        workspace = self._workspace(guid)
        asset = self._cloud.store.get(f"{workspace.id}/{kind}/{name}/versions/{version}")
        new_name, new_version = (
            call.properties.get("destinationName") or name,
            call.properties.get("destinationVersion") or version,
        )
        path = f"{call.path.removesuffix('/import')}/{kind}/{new_name}/versions/{new_version}"
        if self._cloud.store.find(path) is not None:
            raise RefusalError(
                409, "UserError", f"{kind} {new_name!r} version {new_version!r} already exists in the registry"
            )
        container = self._container(call)
        # The SDK takes an answer with content for a failure, so there is none at the end.
        return self._cloud.operations.start(lambda: self._copy(asset, workspace, path, container), location=True)

    def _workspace(self, guid: str) -> Resource:
        for item in self._cloud.store.children(f"{self._cloud.scope()}/workspaces"):
            if item.properties["workspaceId"] == guid:
                return item
        raise missing(f"the workspace with the id {guid}")

    def _copy(self, asset: Resource, workspace: Resource, path: str, container: str) -> None:
        body = asset.to_dict()
        properties = {**body["properties"], "isArchived": False}
        for key in ("modelUri", "dataUri"):
            if key in properties:
                store, source = datastore_path(properties[key])
                target = path.split("/registries/")[1].partition("/")[2]
                self._cloud.blobs.copy(
                    self._cloud.container(store, workspace.name), source, container, f"{target}/{_last(source)}"
                )
                properties[key] = self._cloud.blobs.public_url(container, f"{target}/{_last(source)}")
        self._cloud.store.put(path, {"properties": properties})


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
