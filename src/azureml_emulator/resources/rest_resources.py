"""What the control plane keeps: resources by their path, in the order in which they were created."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from azureml_emulator.resources.resource_database import ResourceDatabase, ResourceRow, as_json
from azureml_emulator.resources.resource_description import resource_type, with_principals
from azureml_emulator.rest.rest_calls import Json, missing

_SETTLED_SECONDS = 5.0


def now() -> str:
    """Return the time as the service writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class RestResource:
    """One resource: what the client wrote, completed by what the service adds.

    Args:
        id: Its path.
        body: Its content; may be changed in place.
        number: Its place in the order in which resources were created.
        touched: Called whenever somebody accesses the body, and so may change it.
    """

    def __init__(
        self, id: str, body: Json, number: int, touched: Callable[[RestResource], None] = lambda resource: None
    ) -> None:
        self.id = id
        self.number = number
        self.created = self.modified = now()
        self._body = body
        self._touched = touched

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.id.rsplit("/", 1)[-1]

    @property
    def body(self) -> Json:
        """Return the content."""
        self._touched(self)
        return self._body

    @body.setter
    def body(self, body: Json) -> None:
        self._body = body
        self._touched(self)

    @property
    def properties(self) -> Json:
        """Return the properties that are particular to its kind."""
        found: Json = self.body.setdefault("properties", {})
        return found

    def to_dict(self) -> Json:
        """Return the resource as a response."""
        system = {
            "createdAt": self.created,
            "createdBy": "someone",
            "createdByType": "User",
            "lastModifiedAt": self.modified,
            "lastModifiedBy": "someone",
            "lastModifiedByType": "User",
        }
        body = with_principals(copy.deepcopy(self._body), self.id)
        return {**body, "id": self.id, "name": self.name, "type": resource_type(self.id), "systemData": system}

    def to_row(self) -> ResourceRow:
        """Return the resource as it is kept in a file."""
        return ResourceRow(self.id.lower(), self.id, self.number, self.created, self.modified, as_json(self._body))


class ResourceStore:
    """Resources by path; names are compared without regard to case, as Azure does.

    With a database, they outlive the process. Whoever changes a resource need not say so: accessing its body marks it, and
    :meth:`flush` writes what has really changed.

    What no client may see but must also be kept, such as keys, has a path that begins with ``/emulator/``.

    Args:
        database: File to keep them in; None for memory only.
    """

    def __init__(self, database: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._resources: dict[str, RestResource] = {}
        self._database = ResourceDatabase(database) if database else None
        self._touched: dict[str, float] = {}
        self._written: dict[str, ResourceRow] = {}
        for row in self._database.rows() if self._database else []:
            made = RestResource(row.id, json.loads(row.body), row.number, self._touch)
            made.created, made.modified = row.created, row.modified
            self._resources[row.key] = made
            self._written[row.key] = row
        self._numbers = count(1 + max((item.number for item in self._resources.values()), default=0))

    def put(self, path: str, body: Json) -> tuple[RestResource, bool]:
        """Keep a resource; also return whether it is new."""
        with self._lock:
            kept = self._resources.get(path.lower())
            if kept is not None:
                kept.body, kept.modified = copy.deepcopy(body), now()
                return kept, False
            made = RestResource(path, copy.deepcopy(body), next(self._numbers), self._touch)
            self._resources[path.lower()] = made
            self._touch(made)
            return made, True

    def keep(self, path: str, body: Json) -> RestResource:
        """Return the resource at a path; create it from the body if there is none yet."""
        with self._lock:
            return self._resources.get(path.lower()) or self.put(path, body)[0]

    def find(self, path: str) -> RestResource | None:
        """Return a resource, or None."""
        return self._resources.get(path.lower())

    def get(self, path: str, what: str = "") -> RestResource:
        """Return a resource.

        Raises:
            RefusalError: 404, there is none.
        """
        found = self.find(path)
        if found is None:
            raise missing(what or path.rsplit("/", 2)[-2].removesuffix("s") + f" {path.rsplit('/', 1)[-1]!r}")
        return found

    def children(self, path: str) -> list[RestResource]:
        """Return the resources directly below a path, oldest first."""
        start = path.lower().rstrip("/") + "/"
        with self._lock:
            found = [
                item for key, item in self._resources.items() if key.startswith(start) and "/" not in key[len(start) :]
            ]
        return sorted(found, key=lambda item: item.number)

    def below(self, path: str) -> list[RestResource]:
        """Return all resources below a path, oldest first."""
        start = path.lower().rstrip("/") + "/"
        with self._lock:
            found = [item for key, item in self._resources.items() if key.startswith(start)]
        return sorted(found, key=lambda item: item.number)

    def delete(self, path: str) -> bool:
        """Forget a resource and everything below it; return whether it existed."""
        with self._lock:
            for item in self.below(path):
                del self._resources[item.id.lower()]
            return self._resources.pop(path.lower(), None) is not None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._resources.clear()

    def flush(self) -> None:
        """Write to the file what has changed since the last time; do nothing without a file.

        A resource is checked until some seconds after somebody accessed it, because that caller may still change it.
        """
        if self._database is None:
            return
        with self._lock:
            rows, moment = [], time.monotonic()
            for key, since in list(self._touched.items()):
                item = self._resources.get(key)
                row = item.to_row() if item is not None else None
                if row is not None and row != self._written.get(key):
                    rows.append(row)
                elif moment - since > _SETTLED_SECONDS:
                    del self._touched[key]
            gone = self._written.keys() - self._resources.keys()
            if rows or gone:
                self._database.change(rows, gone)
            for key in gone:
                del self._written[key]
            self._written.update({row.key: row for row in rows})

    def close(self) -> None:
        """Write what has changed, and close the file."""
        if self._database is not None:
            self.flush()
            self._database.close()
            self._database = None

    def _touch(self, resource: RestResource) -> None:
        if self._database is not None:
            with self._lock:
                self._touched[resource.id.lower()] = time.monotonic()
