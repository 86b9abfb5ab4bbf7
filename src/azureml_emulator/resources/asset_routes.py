"""Versioned assets of workspaces and registries: code, data, environments, components, models."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import WORKSPACE
from azureml_emulator.resources.datastore_addresses import OutputAddresses, located
from azureml_emulator.resources.resource_description import resource_type
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.resources.written_bodies import check_written
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, missing, reply, route

# Required properties of each kind; one of a tuple is enough.
_REQUIRED: dict[str, tuple[str, ...]] = {
    "codes": ("codeUri",),
    "data": ("dataUri",),
    "environments": ("image", "build", "condaFile"),
    "components": ("componentSpec",),
    "models": ("modelUri",),
}
KINDS = tuple(_REQUIRED)
_DEFAULTS: dict[str, Json] = {
    "models": {"modelType": "custom_model", "flavors": {}},
    "environments": {"environmentType": "UserCreated"},
}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}", re.ASCII)
_LONGEST_VERSION = {"data": 30}
# What may be changed later; the rest of a version stays as it was created.
_CHANGEABLE = ("tags", "description", "isArchived", "stage", "properties", "isAnonymous", "provisioningState")


class AssetRoutes:
    """The calls about the assets below one kind of owner.

    Args:
        subscription: Keeps them.
        jobs: Knows the outputs from which assets may be made.
        owner: Path of the owner, with placeholders.
        before: Refuses calls whose owner does not exist.
        long_running: Whether a new version is a long-running operation, as in a registry.
    """

    def __init__(
        self,
        subscription: Subscription,
        jobs: OutputAddresses,
        owner: str = WORKSPACE,
        before: Callable[[RestCall], None] | None = None,
        long_running: bool = False,
    ) -> None:
        self._subscription = subscription
        self._jobs = jobs
        self._owner = owner
        self._before = before or subscription.require_workspace
        self._long_running = long_running

    def routes(self) -> list[Route]:
        """Return the paths."""
        found: list[Route] = []
        for kind in KINDS:
            base = f"{self._owner}/{kind}"
            found += [
                route(base, self._before, GET=self._list_containers),
                route(base + "/{name}", self._before, GET=self._get_container, PUT=self._put_container),
                route(base + "/{name}/versions", self._before, GET=self._list_versions),
                route(
                    base + "/{name}/versions/{version}",
                    self._before,
                    GET=self._get_version,
                    PUT=self._put_version,
                    DELETE=self._delete_version,
                ),
                route(base + "/{name}/versions/{version}/startPendingUpload", self._before, POST=self._start_upload),
            ]
        return found

    def _get_version(self, call: RestCall) -> Response:
        return reply(describe(self._version(call.path)))

    def _version(self, path: str) -> RestResource:
        """Return a version; ``azureml_default`` is the SDK's name for the latest component."""
        kind, name, _, version = path.split("/")[-4:]
        if version == "azureml_default":
            found = self.versions(path.rsplit("/", 1)[0])
            if not found:
                raise missing(f"{kind.removesuffix('s')} {name!r}")
            return found[-1]
        return self._subscription.store.get(path, f"{kind.removesuffix('s')} {name!r} version {version!r}")

    def versions(self, path: str) -> list[RestResource]:
        """Return versions in the collection at a path, oldest first, without archived ones."""
        return [item for item in self._subscription.store.children(path) if not item.properties.get("isArchived")]

    def _put_version(self, call: RestCall) -> Response:
        kind, name, version = call.path.split("/")[-4], call.names["name"], call.names["version"]
        _check_names(kind, name, version)
        check_written(call.path, call.body)
        if not any(call.properties.get(key) for key in _REQUIRED[kind]):
            raise malformed(f"{kind} need {' or '.join(_REQUIRED[kind])}")
        wanted = dict(call.properties)
        for key in ("modelUri", "dataUri") if self._long_running else ():
            if self._subscription.blobs.owns(str(wanted.get(key))):
                wanted[key] = self._subscription.blobs.public_url(*self._subscription.blobs.split(wanted[key]))
        for key in ("modelUri", "dataUri") if not self._long_running else ():
            if wanted.get(key):
                wanted[key] = located(self._jobs, call.path.rsplit("/", 4)[0], str(wanted[key]))
        kept = self._subscription.store.find(call.path)
        if kept is not None:
            _check_unchanged(kept, wanted, kind, name, version)
        # A client may send less than it received: what it omits stays.
        properties = {**_DEFAULTS.get(kind, {}), "isArchived": False, **(kept.properties if kept else {}), **wanted}
        properties.setdefault("isAnonymous", name.startswith("azureml_anonymous"))
        properties["provisioningState"] = "Succeeded"
        made, new = self._subscription.store.put(call.path, {**call.body, "properties": properties})
        if self._long_running:
            return self._subscription.operations.start(lambda: describe(made))
        return reply(describe(made), 201 if new else 200)

    def _delete_version(self, call: RestCall) -> Response:
        return reply(None, 200 if self._subscription.store.delete(call.path) else 204)

    def _list_versions(self, call: RestCall) -> Response:
        collection = call.path
        found = self._subscription.store.children(collection)
        if "hash" in call.query:  # code is found by its content, whatever the name under which it was uploaded
            codes = self._subscription.store.below(collection.rsplit("/", 2)[0])
            found = [item for item in codes if _digest(item) == call.query["hash"]]
        found = _viewed(found, call.query.get("listViewType", "ActiveOnly"), self._archived(collection))
        if "desc" in call.query.get("$orderBy", "").lower():
            found = found[::-1]
        if stage := call.query.get("stage"):
            found = [item for item in found if item.properties.get("stage") == stage]
        return reply(self._subscription.page_of([describe(item) for item in found], call))

    def _archived(self, collection: str) -> bool:
        container = self._subscription.store.find(collection.rsplit("/", 1)[0])
        return container is not None and bool(container.properties.get("isArchived"))

    def _get_container(self, call: RestCall) -> Response:
        return reply(self._container(call.path))

    def _container(self, path: str) -> Json:
        kind, name = path.split("/")[-2:]
        versions = self._subscription.store.children(f"{path}/versions")
        own = self._subscription.store.find(path)
        if not versions and own is None:
            raise missing(f"{kind.removesuffix('s')} {name!r}")
        numbers = [int(item.name) for item in versions if item.name.isdigit()]
        properties: Json = {"isArchived": False, "tags": {}, "properties": {}}
        if versions:
            properties["description"] = versions[-1].properties.get("description")
            properties["latestVersion"] = versions[-1].name
        properties["nextVersion"] = str(max(numbers, default=0) + 1)
        if kind == "data" and versions:
            properties["dataType"] = versions[-1].properties.get("dataType", "uri_folder")
        if own is not None:
            properties.update({key: value for key, value in own.properties.items() if value is not None})
        first = own or versions[0]
        system = first.to_dict()["systemData"]
        return {"id": path, "name": name, "type": resource_type(path), "properties": properties, "systemData": system}

    def _put_container(self, call: RestCall) -> Response:
        kept = {key: value for key, value in call.properties.items() if key not in ("latestVersion", "nextVersion")}
        _, new = self._subscription.store.put(call.path, {"properties": kept})
        if self._long_running:
            return self._subscription.operations.start(lambda: self._container(call.path))
        return reply(self._container(call.path), 201 if new else 200)

    def _list_containers(self, call: RestCall) -> Response:
        prefix = call.path.lower() + "/"
        names = {
            item.id[len(prefix) :].split("/")[0]: None for item in self._subscription.store.below(call.path)
        }  # distinct, in order
        found = [self._container(f"{call.path}/{name}") for name in names]
        view = call.query.get("listViewType", "ActiveOnly")
        if view != "All":
            found = [item for item in found if item["properties"]["isArchived"] == (view == "ArchivedOnly")]
        return reply(self._subscription.page_of(found, call))

    def _start_upload(self, call: RestCall) -> Response:
        container = self._subscription.blobs.make_container("upload")
        return reply(
            {
                "pendingUploadId": container,
                "pendingUploadType": "TemporaryBlobReference",
                "blobReferenceForConsumption": {
                    "blobUri": self._subscription.blobs.url(container),
                    "storageAccountArmId": "",
                    "credential": {
                        "credentialType": "SAS",
                        "sasUri": self._subscription.blobs.signed(container, write=True),
                    },
                },
            }
        )


def describe(version: RestResource) -> Json:
    """Return a version as the service does; a version of a registry has an id of another form."""
    body = version.to_dict()
    if "/registries/" in version.id:
        body["id"] = f"azureml://registries/{version.id.split('/registries/')[1]}"
    return body


def _digest(item: RestResource) -> str:
    return str((item.properties.get("properties") or {}).get("hash_sha256", ""))


def _viewed(items: list[RestResource], view: str, container_archived: bool) -> list[RestResource]:
    if view == "All":
        return items
    return [
        item
        for item in items
        if (bool(item.properties.get("isArchived")) or container_archived) == (view == "ArchivedOnly")
    ]


def _check_names(kind: str, name: str, version: str) -> None:
    """Refuse an invalid name or version of an asset.

    Raises:
        ServiceRefusalError: 400.
    """
    for noun, text in (("name", name), ("version", version)):
        if not _NAME.fullmatch(text):
            raise malformed(f"The {noun} {text!r} is invalid: it may contain letters, digits, '.', '_' and '-' only.")
    longest = _LONGEST_VERSION.get(kind, 255)
    if len(version) > longest:
        raise malformed(f"Argument 'version' exceeded maximum length of {longest}")


def _check_unchanged(kept: RestResource, wanted: Json, kind: str, name: str, version: str) -> None:
    """Refuse a change to the content of a version.

    Raises:
        ServiceRefusalError: 409.
    """
    for key, value in wanted.items():
        if key in _CHANGEABLE or value is None:
            continue
        if not _same(kept.properties.get(key), value):
            what = kind.removesuffix("s")
            message = (
                f"A {what} with the name {name!r} and version {version!r} already exists and cannot be changed: "
                f"{key} differs. Only tags, description and isArchived can be updated; use another version."
            )
            raise ServiceRefusalError(409, "UserError", message)


def _same(kept: object, wanted: object) -> bool:
    """Return whether two values are equivalent: a missing value equals an empty one."""
    if isinstance(kept, dict) and isinstance(wanted, dict):
        return all(_same(kept.get(key), wanted.get(key)) for key in kept.keys() | wanted.keys())
    if kept in (None, "", {}, []) and wanted in (None, "", {}, []):
        return True
    return kept == wanted
