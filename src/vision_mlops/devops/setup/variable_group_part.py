"""Variable groups: the settings of an environment as its pipelines see them, without a secret."""

from __future__ import annotations

from collections.abc import Mapping

from vision_mlops.devops.setup.project_parts import ProjectPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing
from vision_mlops.devops.setup.stage_settings import Stage


class VariableGroupPart(SetupPart):
    """A variable group with values of an environment.

    Args:
        project: Where.
        name: Of the group.
        stage: Whose values.
        wanted: Variables that it holds, and whether each is required.
    """

    kind = "variable group"
    permission = (
        "a variable group takes the role Creator, or Administrator of the group (Pipelines > Library > Security)"
    )

    def __init__(self, project: ProjectPart, name: str, stage: Stage, wanted: Mapping[str, bool]) -> None:
        super().__init__(name)
        self.project, self.id, self._stage = project, 0, stage
        self._lacking = [key for key, required in wanted.items() if required and key not in stage.values]
        self._values = {key: stage.values[key] for key in wanted if key in stage.values}
        self._kept: dict[str, dict[str, object]] = {}

    def _look(self) -> SetupFinding:
        if self._lacking:
            return blocked(
                f"{', '.join(self._lacking)} of the environment {self._stage.name} not set",
                f"set it in {self._stage.source}",
            )
        if not self.project.id:
            return missing(f"{len(self._values)} values")
        rows = self.project.client.rows(
            f"{self.project.path}/_apis/distributedtask/variablegroups", groupName=self.name
        )
        found = next((item for item in rows if item["name"].lower() == self.name.lower()), None)
        if found is None:
            return missing(f"{len(self._values)} values")
        self.id, self._kept = int(found["id"]), found.get("variables") or {}
        if found.get("type", "Vsts") != "Vsts":
            return blocked(
                f"it is of the type {found['type']}", "rename it, or change its name in ado_pipelines/variables"
            )
        # A secret reads as null: it is the owner's, and stays.
        changed = [
            key
            for key, value in self._values.items()
            if not self._kept.get(key, {}).get("isSecret") and self._kept.get(key, {}).get("value") != value
        ]
        return differing(", ".join(changed)) if changed else EXISTS

    def _make(self) -> None:
        secrets = {key: item for key, item in self._kept.items() if item.get("isSecret")}
        values: dict[str, object] = {key: {"value": value} for key, value in self._values.items() if key not in secrets}
        body = {
            "name": self.name,
            "type": "Vsts",
            "description": f"Settings of the environment {self._stage.name}; made by mlops devops init.",
            "variables": {**self._kept, **values},
            "variableGroupProjectReferences": [
                {"name": self.name, "projectReference": {"id": self.project.id, "name": self.project.name}}
            ],
        }
        path = "_apis/distributedtask/variablegroups"
        if self.id:
            self.project.client.send("PUT", f"{path}/{self.id}", body)
        else:
            self.id = int(self.project.client.send("POST", path, body)["id"])
