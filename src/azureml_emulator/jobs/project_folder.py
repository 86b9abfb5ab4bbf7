"""A project folder on this machine: files for the ids of a definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from azureml_emulator.resources.asset_references import arm_id, resolve
from azureml_emulator.resources.datastore_addresses import OutputAddresses, datastore_path, located
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError, malformed

_MODES = {
    "ReadOnlyMount": "ro_mount", "ReadWriteMount": "rw_mount", "Download": "download", "Direct": "direct",
    "EvalMount": "eval_mount", "EvalDownload": "eval_download", "Upload": "upload",
}  # fmt: skip
_NUMBERS = {"number": float, "integer": int}


def mode(value: str) -> str:
    """Return the mode of an input or output as in YAML."""
    return _MODES.get(value, value)


class ProjectFolder:
    """A folder that is filled with what a definition needs.

    Args:
        subscription: Contains what the definition refers to.
        jobs: Knows the outputs of other jobs.
        workspace: Path of the workspace.
        folder: The folder; created here.
    """

    def __init__(self, subscription: Subscription, jobs: OutputAddresses, workspace: str, folder: Path) -> None:
        self._subscription = subscription
        self._jobs = jobs
        self._path = workspace
        self._workspace = workspace.rsplit("/", 1)[1]
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Marks the root of the project for tools that search upwards for one.
        (folder / ".amlignore").touch()

    def write(self, name: str, content: Json) -> Path:
        """Write a YAML file."""
        file = self.folder / name
        file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return file

    def code(self, text: str) -> str:
        """Return the relative path of a code snapshot."""
        resource = resolve(self._subscription, text)
        name = f"code/{resource.id.split('/')[-3]}-{resource.name}"
        if not (self.folder / name).exists():
            self._subscription.blobs.download(
                *self._subscription.blobs.split(resource.properties["codeUri"]), self.folder / name
            )
        return f"./{name}"

    def environment(self, text: str) -> Json | str:
        """Return an environment: by name, or inline if it has none."""
        if not arm_id(text):
            return text if text.startswith("azureml:") else f"azureml:{text}"
        resource = resolve(self._subscription, text)
        name = resource.id.split("/")[-3]
        if not name.startswith("CliV2Anonymous"):
            return f"azureml:{name}:{resource.name}"
        found: Json = {}
        if image := resource.properties.get("image"):
            found["image"] = image
        if conda := resource.properties.get("condaFile"):
            found["conda_file"] = yaml.safe_load(conda)
        if build := resource.properties.get("build"):
            container, path = self._subscription.blobs.split(build["contextUri"])
            self._subscription.blobs.download(container, path, self.folder / f"docker/{resource.name}")
            found["build"] = {"path": f"./docker/{resource.name}"}
        return found

    def data(self, name: str, uri: str) -> str:
        """Return the relative path of input data; addresses outside the workspace stay as they are."""
        uri = self._address(uri)
        place = self._place(uri)
        if place is None:
            return uri
        container, source = place
        target = f"data/{name}/{source.rstrip('/').rsplit('/', 1)[-1]}"
        self._subscription.blobs.download(container, source, self.folder / target)
        return f"./{target}"

    def read(self, uri: str) -> bytes:
        """Return the content of one file in storage.

        Raises:
            ServiceRefusalError: 400, the address is not in the workspace; 404, the file does not exist.
        """
        from azure.core.exceptions import ResourceNotFoundError

        place = self._place(uri)
        if place is None:
            raise malformed(f"{uri!r} is not in storage of the workspace")
        try:
            return self._subscription.blobs.read(*place)
        except ResourceNotFoundError as error:
            raise ServiceRefusalError(404, "BlobNotFound", f"there is nothing at {uri}") from error

    def _address(self, uri: str) -> str:
        """Return the place in storage of an asset, an output of a job or an address."""
        path = arm_id(uri) or (uri if uri.startswith("azureml://registries/") else None)
        if path is not None:
            resource = resolve(self._subscription, path)
            uri = resource.properties.get("dataUri") or resource.properties.get("modelUri") or ""
        return located(self._jobs, self._path, uri)

    def _place(self, uri: str) -> tuple[str, str] | None:
        """Return container and path of an address; None if it is outside the workspace."""
        if self._subscription.blobs.owns(uri):
            return self._subscription.blobs.split(uri)
        if not uri.startswith("azureml://"):
            return None
        store, source = datastore_path(uri)
        return self._subscription.container(store, self._workspace), source

    def resource(self, text: str) -> RestResource:
        """Return what an id in the definition refers to."""
        return resolve(self._subscription, text)

    def spec(self, text: str) -> Json:
        """Return what a component is, in the SDK's terms."""
        found: Json = resolve(self._subscription, text).properties["componentSpec"]
        return found


def declaration(port: Json) -> Json:
    """Return a declared input or output of a component; the SDK sends numbers as text."""
    found = {key: value for key, value in port.items() if value is not None}
    for key in ("default", "min", "max"):
        if key in found:
            found[key] = _typed(found[key], str(found.get("type")))
    if "enum" in found:
        found["enum"] = [_typed(value, str(found.get("type"))) for value in found["enum"]]
    if "mode" in found:
        found["mode"] = mode(found["mode"])
    return found


def _typed(value: Any, type_: str) -> Any:
    if type_ == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return _NUMBERS[type_](value) if type_ in _NUMBERS else value
