"""A request to the service, and the table of the paths that it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testing.support.azure_devops.organization import Organization, Project
from testing.support.azure_devops.refusals import Json, RefusalError, invalid

RELEASED, PREVIEW = "7.1", "7.1-preview.1"


@dataclass(frozen=True)
class Call:
    """A request whose path was taken apart."""

    organization: Organization
    method: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    user: str = ""

    @property
    def project(self) -> Project:
        """The project in the path."""
        return self.organization.project(self.names["project"])

    def text(self, key: str) -> str:
        """A text in the body that has to be there. Raises RefusalError."""
        found = self.body.get(key) if isinstance(self.body, dict) else None
        if not isinstance(found, str) or not found:
            raise invalid(f"Value cannot be null. Parameter name: {key}", "VssPropertyValidationException")
        return found


Answer = tuple[int, Json]
Handler = Callable[[Call], Answer]


@dataclass(frozen=True)
class Operation:
    """A path that the service has.

    Attributes:
        method: Such as ``GET``.
        pattern: Of the path below the organization.
        handler: What answers.
        version: ``7.1`` where it is released, else that of its preview.
        permission: Who may call it, where not everybody may.
        published: The path in the published specification.
    """

    method: str
    pattern: str
    handler: Handler
    version: str = RELEASED
    permission: str = ""

    def match(self, method: str, path: str) -> re.Match[str] | None:
        """Whether it is meant."""
        names = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.pattern)
        return re.fullmatch(names, path, re.IGNORECASE) if method == self.method else None

    def check_version(self, method: str, asked: str) -> None:
        """Refuse a version that it does not have. Raises RefusalError."""
        if not asked:
            if method == "GET":
                return
            message = f'No api-version was supplied for the "{method}" request. It must be in the'
            raise RefusalError(
                400, "VssVersionNotSpecifiedException", f"{message} Accept header or as a query parameter."
            )
        if self.version != RELEASED and asked == RELEASED:
            message = (
                f'The requested version "{asked}" of the resource is under preview: supply the -preview flag in the'
            )
            raise RefusalError(400, "VssInvalidPreviewVersionException", f"{message} api-version for such requests.")
        if not re.fullmatch(r"7\.1(-preview(\.\d)?)?", asked):
            message = f"The requested REST API version of {asked} is out of range for this server."
            raise RefusalError(400, "VssVersionOutOfRangeException", message)


def rows(found: list[Json]) -> Answer:
    """A list as an answer."""
    return 200, {"count": len(found), "value": found}
