"""Who calls Azure, and the command that assigns a role to them."""

from __future__ import annotations

from dataclasses import dataclass

UNSEEN = "so it is not checked"
"""End of a warning about something that the roles of the caller do not let it see."""


@dataclass(frozen=True)
class Caller:
    """Who is signed in: object id, name and tenant."""

    id: str = ""
    name: str = ""
    tenant: str = ""

    def assignment(self, role: str, scope: str) -> str:
        """Return the command that assigns a role to the caller, for someone who is allowed to run it."""
        who = f"--assignee-object-id {self.id}" if self.id else f"--assignee {self.name}"
        return f'az role assignment create {who} --role "{role}" --scope "{scope}"'
