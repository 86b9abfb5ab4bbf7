"""Who calls Azure, and the command that gives it a role."""

from __future__ import annotations

from dataclasses import dataclass

UNSEEN = "so it is not checked"
"""Ends the detail of a warning about what the roles of the caller do not let it see."""


@dataclass(frozen=True)
class Caller:
    """Who is signed in: object id, what it is called, and the tenant."""

    id: str = ""
    name: str = ""
    tenant: str = ""

    def assignment(self, role: str, scope: str) -> str:
        """The command that gives it a role; somebody has to run it who may."""
        who = f"--assignee-object-id {self.id}" if self.id else f"--assignee {self.name}"
        return f'az role assignment create {who} --role "{role}" --scope "{scope}"'
