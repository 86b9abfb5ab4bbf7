"""The project of some data in Custom Vision: found again by its name, with a tag for each class."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from vision_mlops.benchmark.custom_vision.service_errors import IS_PUBLISHED, NOT_PUBLISHED, VisionError
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.benchmark.service_record import ServiceRecord
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.text import nearest

Json = dict[str, Any]

_LONGEST_TAG = 64
_PLAIN = frozenset(" -_.,()")
_GONE = frozenset({"NotFoundProject", "NotFoundIteration", NOT_PUBLISHED})


def project_name(workload: str, fingerprint: str, domain: str) -> str:
    """Name of the project for some data. Another domain gets another project, because it cannot be changed later."""
    digest = hashlib.sha256(f"{fingerprint}\0{domain}".encode()).hexdigest()
    return f"{workload[:24]}-{digest[:16]}"


def tag_names(classes: Sequence[str]) -> list[str]:
    """Return names of the tags of some classes.

    A class with characters that the service might refuse, or with a name that only differs from another in its capitals,
    gets its number as the name. Predictions refer to tags by id, so names are never read back.
    """
    alike = Counter(name.casefold() for name in classes)
    return [
        name if _is_plain(name) and alike[name.casefold()] == 1 else f"class {number}"
        for number, name in enumerate(classes)
    ]


def _is_plain(name: str) -> bool:
    words_alone = all(letter.isalnum() or letter in _PLAIN for letter in name)
    # "Negative" names a tag of another kind, and "class 3" may name another class.
    reserved = name.casefold() == "negative" or name.casefold().startswith("class ")
    return words_alone and not reserved and name == name.strip() and 0 < len(name) <= _LONGEST_TAG


class KeptWork(ServiceRecord, frozen=True):
    """The record of a project, to continue or remove the work in it.

    Attributes:
        endpoint: Endpoint of the account with the project.
        project: Id of the project.
        name: Name of the project.
        iteration: Id of the model whose training was started; empty if there is none.
        outdated: Ids of models that must not be used because a new training was requested.
    """

    file_name: ClassVar[str] = "custom_vision.json"
    damage_hint: ClassVar[str] = "remove it; the project is found again by its name"
    endpoint: str
    project: str
    name: str
    iteration: str = ""
    outdated: tuple[str, ...] = ()


class VisionProject:
    """A project that exists.

    Args:
        client: Client of the account that trains.
        content: Its description by the service.
    """

    def __init__(self, client: VisionClient, content: Json) -> None:
        self.id = str(content["id"])
        self.name = str(content["name"])
        self.path = f"projects/{self.id}"
        self._client = client

    @classmethod
    def find(cls, client: VisionClient, name: str) -> VisionProject | None:
        """Find a project by its name; None if it does not exist. Raises VisionError."""
        found = _named(client.call("GET", "projects"), name)
        return cls(client, found) if found else None

    @classmethod
    def find_or_make(cls, client: VisionClient, name: str, description: str, domain: str) -> tuple[VisionProject, bool]:
        """Find a project by its name, or create it; return it, and whether it is new.

        Args:
            client: Client of the account that trains.
            name: Name from :func:`project_name`.
            description: Description for people in the portal.
            domain: Name of its domain, such as ``General``.

        Raises:
            ConfigError: the service has no domain of this name.
            VisionError: the service refuses.
        """
        made = []

        def make() -> Json:
            query = {
                "name": name,
                "description": description,
                "domainId": _domain_id(client, domain),
                "classificationType": "Multiclass",
            }
            content: Json = client.call("POST", "projects", query=query, repeatable=False)
            made.append(name)
            return content

        found = client.found_or_made(lambda: _named(client.call("GET", "projects"), name), make)
        return cls(client, found), bool(made)

    def tags(self, names: Sequence[str]) -> list[str]:
        """Return the ids of tags by name; missing tags are created. Raises VisionError."""
        there = self._by_name()
        return [there[name]["id"] if name in there else self._tag(name)["id"] for name in names]

    def _tag(self, name: str) -> Json:
        path = f"{self.path}/tags"

        def make() -> Json:
            content: Json = self._client.call("POST", path, query={"name": name}, repeatable=False)
            return content

        return self._client.found_or_made(lambda: _named(self._client.call("GET", path), name), make)

    def counts(self) -> dict[str, int]:
        """Return number of images by the id of their tag. Raises VisionError."""
        return {tag["id"]: int(tag["imageCount"]) for tag in self._by_name().values()}

    def _by_name(self) -> Mapping[str, Json]:
        return {tag["name"]: tag for tag in self._client.call("GET", f"{self.path}/tags")}

    def iterations(self) -> list[Json]:
        """Return its trained models and those in training, newest first. Raises VisionError."""
        rows: list[Json] = self._client.call("GET", f"{self.path}/iterations")
        return sorted(rows, key=lambda row: str(row.get("created", "")), reverse=True)

    def delete_iteration(self, iteration: Json) -> None:
        """Delete a model, which may be published. Raises VisionError."""
        path = f"{self.path}/iterations/{iteration['id']}"
        if iteration.get("publishName"):
            self._deleted(f"{path}/publish")
        self._deleted(path)

    def delete(self, say: Callable[[str], None]) -> None:
        """Delete it with its images and models. Raises VisionError."""
        for iteration in self.iterations():
            if iteration.get("status") in ("Completed", "Failed"):
                self.delete_iteration(iteration)
        try:
            self._deleted(self.path)
        except VisionError as error:
            if error.code == IS_PUBLISHED:
                error.hint = f"unpublish the models of the project {self.name} in the portal, then run this again"
            raise
        say(f"deleted the project {self.name} of Custom Vision")

    def _deleted(self, path: str) -> None:
        """Delete something, which a repeated call may no longer find."""
        try:
            self._client.call("DELETE", path)
        except VisionError as error:
            if error.code not in _GONE:
                raise


def _named(rows: Sequence[Json], name: str) -> Json | None:
    return next((row for row in rows if row["name"] == name), None)


def _domain_id(client: VisionClient, name: str) -> str:
    rows = client.call("GET", "domains")
    domains = {
        row["name"]: str(row["id"]) for row in rows if row["type"] == "Classification" and row.get("enabled", True)
    }
    if name not in domains:
        raise ConfigError(f"MLOPS_CUSTOM_VISION_DOMAIN: unknown domain {name!r}", nearest(name, domains))
    return domains[name]
