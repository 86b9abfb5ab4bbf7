"""One thing that the pipelines need: whether it exists, and how to create it."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vision_mlops.core.errors import AzureError


class Standing(enum.StrEnum):
    """The state of a thing, compared with what is wanted."""

    EXISTS = "exists"
    CREATE = "create"
    DIFFERS = "differs"
    BLOCKED = "blocked"
    LATER = "later"


@dataclass(frozen=True)
class SetupFinding:
    """The result of looking at a thing.

    Attributes:
        standing: Its state. A thing that differs is changed. A thing that is blocked needs a person first, and nothing is
            created before that. A thing that comes later cannot be created yet, and nothing else depends on it.
        detail: What is missing or different.
        fix: What a person has to do about it.
    """

    standing: Standing
    detail: str = ""
    fix: str = ""


EXISTS = SetupFinding(Standing.EXISTS)


class SetupPart(ABC):
    """A thing that is looked at with reads only, and created with as few writes as possible.

    Attributes:
        kind: What it is, such as ``environment``.
        name: Its own name.
        permission: Who may create it, for the error of those who may not.
    """

    kind: str = ""
    permission: str = ""

    def __init__(self, name: str, of: str = "") -> None:
        self.name, self._of = name, of

    @property
    def label(self) -> str:
        """Kind and name."""
        return f"{self.kind} {self.name}{f' of {self._of}' if self._of else ''}"

    def look(self) -> SetupFinding:
        """Find out its state. Changes nothing. Raises AzureError."""
        with self._explained():
            return self._look()

    def make(self) -> None:
        """Create it, or change what differs; called after :meth:`look`. Raises AzureError."""
        with self._explained():
            self._make()

    @abstractmethod
    def _look(self) -> SetupFinding: ...

    def _make(self) -> None:
        raise NotImplementedError(f"{self.label} exists, or a person creates it")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add the name of this thing, and who may create it, to an error."""
        try:
            yield
        except AzureError as error:
            hint = self.permission if error.status == 403 and self.permission else error.hint
            raise AzureError(f"{self.label}: {error.message}", hint, error.status) from error


def missing(detail: str = "") -> SetupFinding:
    """Return the state of something that does not exist, and is created."""
    return SetupFinding(Standing.CREATE, detail)


def differing(detail: str) -> SetupFinding:
    """Return the state of something that exists with other content, and is changed."""
    return SetupFinding(Standing.DIFFERS, detail)


def blocked(detail: str, fix: str) -> SetupFinding:
    """Return the state of something that a person has to take care of first."""
    return SetupFinding(Standing.BLOCKED, detail, fix)


def later(detail: str, fix: str) -> SetupFinding:
    """Return the state of something that cannot be created yet, and that nothing else waits for."""
    return SetupFinding(Standing.LATER, detail, fix)
