"""The objects of a loopback Kubernetes cluster: validated by the published schemas, and changed by server-side apply.

What it leaves out of the real thing: lists have one owner, the manager that applied them; there is no watch.
"""

from __future__ import annotations

import copy
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import kubernetes_validate

VERSION = "1.36"
Object = dict[str, Any]
Key = tuple[str, str, str]
Path = tuple[str, ...]
_IDENTITY = {
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "resourceVersion"),
}


class RefusalError(Exception):
    """An answer other than success, as the API words it."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "details": details or {}, "code": code,
        }  # fmt: skip


@dataclass
class Store:
    """All objects by plural, namespace and name. Whoever reads and writes in one go holds the lock.

    ``defaults`` fill in what is not said, ``checks`` take the place of the published schemas; both by plural.
    """

    objects: dict[Key, Object] = field(default_factory=dict)
    applied: dict[Key, dict[str, dict[Path, Any]]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    defaults: dict[str, Callable[[Object], None]] = field(default_factory=dict)
    checks: dict[str, Callable[[Object], None]] = field(default_factory=dict)
    _version: int = 1

    def get(self, plural: str, namespace: str, name: str) -> Object:
        with self.lock:
            found = self.objects.get((plural, namespace, name))
            if found is None:
                raise RefusalError(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})
            return copy.deepcopy(found)

    def list(self, plural: str, namespace: str = "", labels: str = "", fields: str = "") -> list[Object]:
        wanted, places = _pairs(labels), _pairs(fields)

        def chosen(item: Object) -> bool:
            own = item["metadata"].get("labels") or {}
            return all(own.get(name) == value for name, value in wanted.items()) and all(
                _at(item, tuple(path.split("."))) == value for path, value in places.items()
            )

        with self.lock:
            items = [
                item for (kind, place, _), item in self.objects.items() if kind == plural and namespace in ("", place)
            ]
            return copy.deepcopy([item for item in items if chosen(item)])

    def create(self, plural: str, namespace: str, body: Object) -> Object:
        with self.lock:
            name = body["metadata"]["name"]
            if (plural, namespace, name) in self.objects:
                raise RefusalError(409, "AlreadyExists", f'{plural} "{name}" already exists')
            return self.apply(plural, namespace, name, body, "creator", force=True)

    def apply(self, plural: str, namespace: str, name: str, body: Object, manager: str, *, force: bool) -> Object:
        """Server-side apply: set what is said, take away what this manager no longer says, refuse what others own."""
        if body["metadata"].get("managedFields"):
            raise RefusalError(400, "BadRequest", "metadata.managedFields must be nil")
        key = (plural, namespace, name)
        with self.lock:
            live = copy.deepcopy(self.objects.get(key))
            before = json.dumps(live, sort_keys=True)
            stated = body["metadata"].get("resourceVersion")
            if stated and (live is None or live["metadata"]["resourceVersion"] != stated):
                raise RefusalError(
                    409, "Conflict", "the object has been modified; please apply your changes to the latest"
                )
            owners = copy.deepcopy(self.applied.get(key, {}))
            said = {path: value for path, value in _leaves(body) if path not in _IDENTITY}
            _resolve(owners, manager, said, force=force, name=name)
            made = live or self._new(body, namespace)
            for path in owners.get(manager, {}):
                if path not in said and not any(path in other for who, other in owners.items() if who != manager):
                    _remove(made, path)
            for path, value in said.items():
                _set(made, path, value)
            owners[manager] = said
            self.checks.get(plural, partial(_validate, name=name))(made)
            if live is not None and _selector(live) != _selector(made):
                raise RefusalError(422, "Invalid", f'{plural} "{name}" is invalid: spec.selector: field is immutable')
            if plural in self.defaults:
                self.defaults[plural](made)
            if live is None or made.get("spec") != json.loads(before).get("spec"):
                made["metadata"]["generation"] = made["metadata"].get("generation", 0) + 1
            made["metadata"]["managedFields"] = [
                {"manager": who, "operation": "Apply", "apiVersion": made["apiVersion"], "fieldsType": "FieldsV1",
                 "fieldsV1": {"f:" + ".".join(path): {} for path in paths}} for who, paths in owners.items()
            ]  # fmt: skip
            self.applied[key] = owners
            if json.dumps(made, sort_keys=True) != before:
                self.put(plural, made)
            return copy.deepcopy(made)

    def put(self, plural: str, made: Object) -> None:
        """Write an object as a controller does."""
        with self.lock:
            self._version += 1
            made["metadata"]["resourceVersion"] = str(self._version)
            key = (plural, made["metadata"].get("namespace", ""), made["metadata"]["name"])
            self.objects[key] = copy.deepcopy(made)

    def drop(self, plural: str, namespace: str, name: str) -> None:
        with self.lock:
            self.objects.pop((plural, namespace, name), None)
            self.applied.pop((plural, namespace, name), None)

    @staticmethod
    def _new(body: Object, namespace: str) -> Object:
        metadata = {"name": body["metadata"]["name"], "uid": str(uuid.uuid4()), "creationTimestamp": now()}
        place = {"namespace": namespace} if namespace else {}
        return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {**metadata, **place}}


def now() -> str:
    """The time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _resolve(
    owners: dict[str, dict[Path, Any]], manager: str, said: dict[Path, Any], *, force: bool, name: str
) -> None:
    causes = []
    for other, paths in owners.items():
        if other == manager:
            continue
        for path in [path for path in said if path in paths and paths[path] != said[path]]:
            if force:
                del paths[path]
            else:
                message = f'conflict with "{other}"'
                causes.append({"reason": "FieldManagerConflict", "message": message, "field": "." + ".".join(path)})
    if causes:
        text = f"Apply failed with {len(causes)} conflict: {causes[0]['message']}: {causes[0]['field']}"
        raise RefusalError(409, "Conflict", text, {"name": name, "causes": causes})


def _validate(made: Object, name: str) -> None:
    metadata = {key: value for key, value in made["metadata"].items() if key != "managedFields"}
    try:
        kubernetes_validate.validate({**made, "metadata": metadata}, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(map(str, error.path))
        raise RefusalError(422, "Invalid", f'{made["kind"]} "{name}" is invalid: {place}: {error.message}') from error


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Values by path; a list is one value."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path, node


def _at(node: Any, path: Path) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _set(node: Object, path: Path, value: Any) -> None:
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = copy.deepcopy(value)


def _remove(node: Object, path: Path) -> None:
    parents = [node]
    for key in path[:-1]:
        if not isinstance(parents[-1].get(key), dict):
            return
        parents.append(parents[-1][key])
    parents[-1].pop(path[-1], None)
    for parent, child, key in reversed(list(zip(parents, parents[1:], path, strict=False))):
        if not child:
            parent.pop(key, None)


def _selector(made: Object) -> Any:
    return made["spec"].get("selector") if made["kind"] == "Deployment" else None


def _pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if part)
