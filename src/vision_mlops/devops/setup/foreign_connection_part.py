"""A service connection that only a person can make, such as one to GitHub, which asks them to sign in there."""

from __future__ import annotations

from vision_mlops.devops.setup.project_parts import ProjectPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked


class ForeignConnectionPart(SetupPart):
    """It is looked for, and never made. ``id`` is known where it exists."""

    kind = "service connection"

    def __init__(self, project: ProjectPart, name: str, type: str) -> None:
        super().__init__(name)
        self._project, self._type, self.id = project, type, ""

    def _look(self) -> SetupFinding:
        rows = []
        if self._project.id:
            path = f"{self._project.path}/_apis/serviceendpoint/endpoints"
            rows = self._project.client.rows(path, endpointNames=self.name)
        if not rows:
            fix = (
                f"create the project, then the connection (type {self._type}) in Project settings > Service connections"
            )
            return blocked("only a person can make it", fix)
        self.id = str(rows[0]["id"])
        return EXISTS

    def _make(self) -> None:
        """Never called: it is there, or a person makes it."""
