"""Variable groups: the settings of an environment as its pipelines see them, without a secret."""

from __future__ import annotations

from collections.abc import Mapping

from vision_mlops.devops.setup.project_parts import NamedPart, ProjectPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, blocked, differing, missing
from vision_mlops.devops.setup.stage_settings import Stage


class VariableGroupPart(NamedPart):
    """A variable group with values of an environment.

    Args:
        project: Where.
        name: Of the group.
        stage: Whose values.
        wanted: Variables that it holds, and whether each is required.
    """

    kind = "variable group"
    permission = (
        "a variable group needs the role Creator, or Administrator of the group (Pipelines > Library > Security)"
    )

    collection, selector = "distributedtask/variablegroups", "groupName"

    def __init__(self, project: ProjectPart, name: str, stage: Stage, wanted: Mapping[str, bool]) -> None:
        super().__init__(project, name)
        self._stage = stage
        self._lacking = [key for key, required in wanted.items() if required and key not in stage.values]
        self._values = {key: stage.values[key] for key in wanted if key in stage.values}
        self._kept: dict[str, dict[str, object]] = {}

    def _look(self) -> SetupFinding:
        if self._lacking:
            return blocked(
                f"{', '.join(self._lacking)} of the environment {self._stage.name} not set",
                f"set it in {self._stage.source}",
            )
        found = self._row()
        if found is None:
            return missing(f"{len(self._values)} values")
        self.id, self._kept = int(found["id"]), found.get("variables") or {}
        if found.get("type", "Vsts") != "Vsts":
            return blocked(f"its type is {found['type']}", "rename it, or change its name in ado_pipelines/variables")
        # A secret is read as null. It belongs to its owner and is kept.
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
            "description": f"Settings of the environment {self._stage.name}; created by mlops devops init.",
            "variables": {**self._kept, **values},
            "variableGroupProjectReferences": [
                {"name": self.name, "projectReference": {"id": self.project.id, "name": self.project.name}}
            ],
        }
        self.id = int(self.project.client.save(f"_apis/{self.collection}", self.id, body)["id"])
