"""A service connection that only a person can create, such as one to GitHub, which asks them to sign in there."""

from __future__ import annotations

from vision_mlops.devops.setup.project_parts import NamedPart, ProjectPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, blocked


class ForeignConnectionPart(NamedPart):
    """It is looked for, and never created."""

    kind = "service connection"
    collection, selector = "serviceendpoint/endpoints", "endpointNames"

    def __init__(self, project: ProjectPart, name: str, type: str) -> None:
        super().__init__(project, name)
        self._type = type

    def _look(self) -> SetupFinding:
        row = self._row()
        if row is None:
            place = "Project settings > Service connections"
            fix = f"create the project, then the connection (type {self._type}) in {place}"
            return blocked("only a person can create it", fix)
        self.id = str(row["id"])
        return EXISTS
