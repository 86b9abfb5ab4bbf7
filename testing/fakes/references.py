"""Ids of the control plane, and what they stand for: files of a project folder on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from testing.fakes.calls import Json, RefusalError, malformed
from testing.fakes.outputs import datastore_path, located

if TYPE_CHECKING:
    from testing.fakes.cloud import Cloud
    from testing.fakes.store import Resource

_ID = re.compile(r"(?:azureml:)?(/subscriptions/.+)", re.IGNORECASE)
_REGISTRY = re.compile(r"azureml://registries/([^/]+)/(\w+)/([^/]+)/versions/([^/]+)")
_MODES = {
    "ReadOnlyMount": "ro_mount", "ReadWriteMount": "rw_mount", "Download": "download", "Direct": "direct",
    "EvalMount": "eval_mount", "EvalDownload": "eval_download", "Upload": "upload",
}  # fmt: skip
_NUMBERS = {"number": float, "integer": int}


def arm_id(text: str) -> str | None:
    """The path that an id with or without ``azureml:`` holds; None where the text is no id."""
    found = _ID.fullmatch(text)
    return found[1] if found else None


def mode(value: str) -> str:
    """Mode of an input or output in the words of YAML."""
    return _MODES.get(value, value)


def check(cloud: Cloud, body: object) -> None:
    """Refuse a body that refers to something that does not exist.

    Raises:
        RefusalError: 404, naming it.
    """
    if isinstance(body, dict):
        for value in body.values():
            check(cloud, value)
    elif isinstance(body, list):
        for value in body:
            check(cloud, value)
    elif isinstance(body, str) and "${{" not in body:
        path = arm_id(body)
        found = _REGISTRY.fullmatch(body)
        # Registries of others, such as the one with Microsoft's images, are out of sight.
        ours = found is not None and cloud.store.find(f"{cloud.scope()}/registries/{found[1]}") is not None
        if ours or (path is not None and "/workspaces/" in path):
            resolve(cloud, body)


def resolve(cloud: Cloud, text: str) -> Resource:
    """The resource that an id means; labels mean the newest version.

    Raises:
        RefusalError: 404, it does not exist; 400, the text is no id.
    """
    if found := _REGISTRY.fullmatch(text):
        registry, kind, name, version = found.groups()
        region = f"/mferp/managementfrontend{cloud.scope()}/registries/{registry}"
        return cloud.store.get(f"{region}/{kind}/{name}/versions/{version}", text)
    path = arm_id(text)
    if path is None:
        raise malformed(f"{text!r} is no id")
    if "/labels/" in path:
        versions = cloud.store.children(path.split("/labels/")[0] + "/versions")
        if versions:
            return versions[-1]
    found_there = cloud.store.find(path)
    if found_there is None:
        kind, *rest = path.split("/workspaces/")[-1].split("/")[1:]
        raise RefusalError(
            404, "UserError", f"{kind.removesuffix('s')} {':'.join(rest[::2])} was not found in the workspace"
        )
    return found_there


class Project:
    """A folder that is filled with what a definition needs.

    Args:
        cloud: Holds it.
        workspace: Path of the workspace.
        folder: The folder; made here.
    """

    def __init__(self, cloud: Cloud, workspace: str, folder: Path) -> None:
        self._cloud = cloud
        self._path = workspace
        self._workspace = workspace.rsplit("/", 1)[1]
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Marks the top of the project for tools that look for one further up.
        (folder / ".amlignore").touch()

    def write(self, name: str, content: Json) -> Path:
        """Write a YAML file."""
        file = self.folder / name
        file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return file

    def code(self, text: str) -> str:
        """Relative path of a code snapshot."""
        resource = resolve(self._cloud, text)
        name = f"code/{resource.id.split('/')[-3]}-{resource.name}"
        if not (self.folder / name).exists():
            self._cloud.blobs.download(*self._cloud.blobs.split(resource.properties["codeUri"]), self.folder / name)
        return f"./{name}"

    def environment(self, text: str) -> Json | str:
        """An environment: by name, or inline where it has none."""
        if not arm_id(text):
            return text if text.startswith("azureml:") else f"azureml:{text}"
        resource = resolve(self._cloud, text)
        name = resource.id.split("/")[-3]
        if not name.startswith("CliV2Anonymous"):
            return f"azureml:{name}:{resource.name}"
        found: Json = {}
        if image := resource.properties.get("image"):
            found["image"] = image
        if conda := resource.properties.get("condaFile"):
            found["conda_file"] = yaml.safe_load(conda)
        if build := resource.properties.get("build"):
            container, path = self._cloud.blobs.split(build["contextUri"])
            self._cloud.blobs.download(container, path, self.folder / f"docker/{resource.name}")
            found["build"] = {"path": f"./docker/{resource.name}"}
        return found

    def data(self, name: str, uri: str) -> str:
        """Relative path of input data; addresses outside of the workspace stay as they are."""
        path = arm_id(uri) or (uri if uri.startswith("azureml://registries/") else None)
        if path is not None:
            resource = resolve(self._cloud, path)
            uri = resource.properties.get("dataUri") or resource.properties.get("modelUri") or ""
        uri = located(self._cloud, self._path, uri)
        if self._cloud.blobs.owns(uri):
            container, source = self._cloud.blobs.split(uri)
        elif uri.startswith("azureml://"):
            store, source = datastore_path(uri)
            container = self._cloud.container(store, self._workspace)
        else:
            return uri
        target = f"data/{name}/{source.rstrip('/').rsplit('/', 1)[-1]}"
        self._cloud.blobs.download(container, source, self.folder / target)
        return f"./{target}"

    def spec(self, text: str) -> Json:
        """What a component is, in the words of the SDK."""
        found: Json = resolve(self._cloud, text).properties["componentSpec"]
        return found

    def component(self, text: str) -> str:
        """Relative path of the definition of a component."""
        from testing.fakes.translate import component

        resource = resolve(self._cloud, text)
        file = f"{resource.id.split('/')[-3]}-{resource.name}.yml"
        if not (self.folder / file).exists():
            self.write(file, component(self, resource.properties["componentSpec"]))
        return f"./{file}"


def declaration(port: Json) -> Json:
    """Declared input or output of a component; the SDK sends numbers as text."""
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
