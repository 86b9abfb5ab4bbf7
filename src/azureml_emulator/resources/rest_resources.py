"""What the control plane keeps: resources by their path, in the order in which they were made."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from azureml_emulator.rest.rest_calls import Json, missing


def now() -> str:
    """The time as the service writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class RestResource:
    """One resource: what the client wrote, completed by what the service adds."""

    id: str
    body: Json
    number: int
    created: str = field(default_factory=now)
    modified: str = field(default_factory=now)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.id.rsplit("/", 1)[-1]

    @property
    def properties(self) -> Json:
        """What is particular to its kind."""
        found: Json = self.body.setdefault("properties", {})
        return found

    def to_dict(self) -> Json:
        """The resource as an answer."""
        person = {"createdBy": "someone", "createdByType": "User"}
        dates = {"createdAt": self.created, "lastModifiedAt": self.modified, "lastModifiedBy": "someone"}
        return {**copy.deepcopy(self.body), "id": self.id, "name": self.name, "systemData": {**person, **dates}}


class ResourceStore:
    """Resources by path; names are compared without regard to case, as Azure does."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._resources: dict[str, RestResource] = {}
        self._numbers = count(1)

    def put(self, path: str, body: Json) -> tuple[RestResource, bool]:
        """Keep a resource; says too whether it is new."""
        with self._lock:
            kept = self._resources.get(path.lower())
            if kept is not None:
                kept.body, kept.modified = copy.deepcopy(body), now()
                return kept, False
            made = RestResource(path, copy.deepcopy(body), next(self._numbers))
            self._resources[path.lower()] = made
            return made, True

    def find(self, path: str) -> RestResource | None:
        """A resource, or None."""
        return self._resources.get(path.lower())

    def get(self, path: str, what: str = "") -> RestResource:
        """A resource.

        Raises:
            RefusalError: 404, there is none.
        """
        found = self.find(path)
        if found is None:
            raise missing(what or path.rsplit("/", 2)[-2].removesuffix("s") + f" {path.rsplit('/', 1)[-1]!r}")
        return found

    def children(self, path: str) -> list[RestResource]:
        """The resources right below a path, oldest first."""
        start = path.lower().rstrip("/") + "/"
        with self._lock:
            found = [
                item for key, item in self._resources.items() if key.startswith(start) and "/" not in key[len(start) :]
            ]
        return sorted(found, key=lambda item: item.number)

    def below(self, path: str) -> list[RestResource]:
        """All resources below a path, oldest first."""
        start = path.lower().rstrip("/") + "/"
        with self._lock:
            found = [item for key, item in self._resources.items() if key.startswith(start)]
        return sorted(found, key=lambda item: item.number)

    def delete(self, path: str) -> bool:
        """Forget a resource and what is below it; says whether there was one."""
        with self._lock:
            for item in self.below(path):
                del self._resources[item.id.lower()]
            return self._resources.pop(path.lower(), None) is not None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._resources.clear()
