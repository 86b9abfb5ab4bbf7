"""Environments that are deployed to, with the checks that a deployment waits for: approval and exclusive lock."""

from __future__ import annotations

from typing import Any

from vision_mlops.devops.devops_client import PREVIEW
from vision_mlops.devops.setup.project_parts import NamedPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing

APPROVAL = ("8c6f20a7-a545-4486-9777-f762fafe0d4d", "Approval")
EXCLUSIVE_LOCK = ("2ef31ad6-baa0-403a-8b45-2cbc9b4e5563", "ExclusiveLock")
"""Type and name of a check, the same in every organization."""
_MINUTES = 43_200
"""How long a deployment waits for a check: 30 days, as in the portal."""


class EnvironmentPart(NamedPart):
    """An environment."""

    kind = "environment"
    permission = "creating an environment needs the role Creator (Pipelines > Environments > Security)"
    collection, selector = "distributedtask/environments", "name"

    def _make(self) -> None:
        body = {"name": self.name, "description": "Created by mlops devops init."}
        self.id = int(self.project.client.send("POST", self._path, body)["id"])


class _CheckPart(SetupPart):
    """A check on an environment."""

    check = ("", "")
    permission = "a check needs the role Administrator of the environment (Pipelines > Environments > Security)"

    def __init__(self, environment: EnvironmentPart) -> None:
        super().__init__(environment.name)
        self._environment, self._id = environment, 0

    def _look(self) -> SetupFinding:
        project = self._environment.project
        if not self._environment.id:
            return missing()
        rows = project.client.rows(
            f"{project.path}/_apis/pipelines/checks/configurations",
            PREVIEW,
            resourceType="environment",
            resourceId=str(self._environment.id),
            _expand="settings",
        )
        found = next((item for item in rows if item["type"]["id"].lower() == self.check[0]), None)
        if found is None:
            return missing()
        self._id = int(found["id"])
        return self._compared(found)

    def _make(self) -> None:
        project = self._environment.project
        environment = {"type": "environment", "id": str(self._environment.id), "name": self._environment.name}
        body = {
            "type": {"id": self.check[0], "name": self.check[1]},
            "settings": self._settings(),
            "timeout": _MINUTES,
            "resource": environment,
        }
        path = f"{project.path}/_apis/pipelines/checks/configurations"
        self._id = int(project.client.save(path, self._id, body, PREVIEW, method="PATCH")["id"])

    def _compared(self, found: dict[str, Any]) -> SetupFinding:
        return EXISTS

    def _settings(self) -> dict[str, Any]:
        return {}


class ExclusiveLockPart(_CheckPart):
    """Only one run at a time deploys to the environment."""

    kind = "exclusive lock"
    check = EXCLUSIVE_LOCK


class ApprovalPart(_CheckPart):
    """Somebody approves a deployment to the environment before it begins.

    Args:
        environment: Which.
        approvers: Mail addresses or names of people and groups; without them, an existing check is left unchanged.
    """

    kind = "approval"
    check = APPROVAL

    def __init__(self, environment: EnvironmentPart, approvers: tuple[str, ...]) -> None:
        super().__init__(environment)
        self._approvers, self._ids, self._kept = approvers, dict[str, str](), dict[str, Any]()

    def _look(self) -> SetupFinding:
        for who in self._approvers:
            if who not in self._ids:
                finding = self._resolve(who)
                if finding is not None:
                    return finding
        found = super()._look()
        if found.standing == "create" and not self._approvers:
            return blocked("no approver is given", "give --approver with a mail address, once or more")
        if found.standing == "create":
            return missing(f"by {', '.join(self._approvers)}")
        return found

    def _resolve(self, who: str) -> SetupFinding | None:
        rows = [item for item in self._environment.project.client.identities(who) if item.get("isActive", True)]
        exact = [item for item in rows if who.lower() in _names(item)] or rows
        if not exact:
            return blocked(f"nobody in the organization is called {who!r}", "correct --approver, or invite them first")
        if len(exact) > 1:
            shown = ", ".join(str(item.get("providerDisplayName")) for item in exact)
            return blocked(f"{who!r} may be {shown}", "give the mail address, or the whole name of the group")
        self._ids[who] = str(exact[0]["id"])
        return None

    def _compared(self, found: dict[str, Any]) -> SetupFinding:
        self._kept = found.get("settings") or {}
        there = {str(item["id"]) for item in self._kept.get("approvers", [])}
        added = [who for who, id in self._ids.items() if id not in there]
        return differing(f"without {', '.join(added)}") if added else EXISTS

    def _settings(self) -> dict[str, Any]:
        default = {
            "executionOrder": "anyOrder",
            "minRequiredApprovers": 1,
            "instructions": "Check the smoke test of the staging deployment first.",
            "blockedApprovers": [],
        }
        ids = [str(item["id"]) for item in self._kept.get("approvers", [])]
        return {**default, **self._kept, "approvers": [{"id": id} for id in dict.fromkeys([*ids, *self._ids.values()])]}


def _names(identity: dict[str, Any]) -> set[str]:
    properties = identity.get("properties") or {}
    texts = [properties.get(key, {}).get("$value") for key in ("Account", "Mail")]
    return {str(text).lower() for text in [*texts, identity.get("providerDisplayName")] if text}
