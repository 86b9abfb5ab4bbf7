"""One thing that the pipelines need: whether it is there, and how it is made."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vision_mlops.core.errors import AzureError


class Standing(enum.StrEnum):
    """How a thing is, compared with what is wanted."""

    EXISTS = "exists"
    CREATE = "create"
    DIFFERS = "differs"
    BLOCKED = "blocked"
    LATER = "later"


@dataclass(frozen=True)
class SetupFinding:
    """What a look has found.

    Attributes:
        standing: How it is. What differs is changed. What is blocked only a person can change, and nothing is made before
            that; what comes later cannot be made yet, and the rest does not need it.
        detail: What is missing or different.
        fix: What to do about it, where a person has to.
    """

    standing: Standing
    detail: str = ""
    fix: str = ""


EXISTS = SetupFinding(Standing.EXISTS)


class SetupPart(ABC):
    """A thing that is looked at with reads only, and made with as few writes as it takes.

    Attributes:
        kind: What it is, such as ``environment``.
        name: Its own name.
        permission: Who may make it, for those who may not.
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
        """How it is. Changes nothing. Raises AzureError."""
        with self._explained():
            return self._look()

    def make(self) -> None:
        """Make it, or change what differs; called after :meth:`look`. Raises AzureError."""
        with self._explained():
            self._make()

    @abstractmethod
    def _look(self) -> SetupFinding: ...

    @abstractmethod
    def _make(self) -> None: ...

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Give an error the name of this thing, and who may make it."""
        try:
            yield
        except AzureError as error:
            hint = self.permission if error.status == 403 and self.permission else error.hint
            raise AzureError(f"{self.label}: {error.message}", hint, error.status) from error


def missing(detail: str = "") -> SetupFinding:
    """What does not exist, and is made."""
    return SetupFinding(Standing.CREATE, detail)


def differing(detail: str) -> SetupFinding:
    """What exists with other content, and is changed."""
    return SetupFinding(Standing.DIFFERS, detail)


def blocked(detail: str, fix: str) -> SetupFinding:
    """What a person has to see to first."""
    return SetupFinding(Standing.BLOCKED, detail, fix)


def later(detail: str, fix: str) -> SetupFinding:
    """What cannot be made yet, and what nothing else waits for."""
    return SetupFinding(Standing.LATER, detail, fix)
