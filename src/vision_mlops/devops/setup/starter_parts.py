"""Who starts pipelines besides people: the identity of a job that has finished, and runs of other pipelines."""

from __future__ import annotations

from collections.abc import Callable

from vision_mlops.core.errors import AzureError
from vision_mlops.devops.setup.pipeline_parts import PipelinePart
from vision_mlops.devops.setup.project_parts import ProjectPart
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, later, missing
from vision_mlops.devops.setup.stage_settings import Stage

_BUILD_SECURITY = "33344d9c-fc72-4d6f-aba5-fa317101a7e9"
"""Namespace of the permissions of pipelines, the same in every organization."""
_VIEW_BUILDS, _QUEUE_BUILDS = 1, 128
_MEMBER = "reads the project; needs a Basic license"
_CLUSTER = "`make infra-up` creates the cluster with an identity; then run this command again"


class StarterPart(SetupPart):
    """An identity of Azure, or the build service of the project, may start a pipeline.

    Args:
        pipeline: Which.
        who: The identity, in words.
        descriptor: Returns the descriptor of the identity; empty while it is unknown, None if the identity does not exist.
    """

    kind = "right to start"
    permission = "permissions of pipelines are granted by a project administrator"

    def __init__(self, pipeline: PipelinePart, who: str, descriptor: Callable[[], str | None]) -> None:
        super().__init__(f"{pipeline.name} by {who}")
        self._pipeline, self._descriptor = pipeline, descriptor

    def _look(self) -> SetupFinding:
        descriptor = self._descriptor()
        if descriptor is None:
            return later("", _CLUSTER)
        if not (self._pipeline.id and descriptor):
            return missing()
        client = self._pipeline.project.client
        path = f"_apis/accesscontrollists/{_BUILD_SECURITY}"
        lists = client.rows(path, token=self._token, descriptors=descriptor)
        entries = [entry for item in lists for key, entry in item["acesDictionary"].items() if key == descriptor]
        wanted = _VIEW_BUILDS | _QUEUE_BUILDS
        if any(entry["deny"] & wanted for entry in entries):
            return blocked("it is denied", "remove the denial in the pipeline's Security")
        return EXISTS if any(entry["allow"] & wanted == wanted for entry in entries) else missing()

    def _make(self) -> None:
        if not self._descriptor():
            raise AzureError(
                "the organization does not show this identity yet",
                f"run this command again in a minute, or permit Queue builds in the Security of {self._pipeline.name}",
            )
        entry = {"descriptor": self._descriptor(), "allow": _VIEW_BUILDS | _QUEUE_BUILDS, "deny": 0}
        body = {"token": self._token, "merge": True, "accessControlEntries": [entry]}
        self._pipeline.project.client.send("POST", f"_apis/accesscontrolentries/{_BUILD_SECURITY}", body)

    @property
    def _token(self) -> str:
        return f"{self._pipeline.project.id}/{self._pipeline.id}"


class ClusterIdentityPart(SetupPart):
    """The identity that jobs on a compute cluster act as. The infrastructure creates it; ``principal`` is its object id."""

    kind = "compute cluster"

    def __init__(self, stage: Stage, cluster: str) -> None:
        super().__init__(cluster, stage.settings.workspace_name)
        self._stage, self.principal = stage, ""

    def _look(self) -> SetupFinding:
        self.principal = self._stage.directory.cluster_principal(self.name)
        if not self.principal:
            return later("it has no identity to start a pipeline with when a training has finished", _CLUSTER)
        return EXISTS


class MemberPart(SetupPart):
    """An identity of Azure is a member of the organization, so that it can be given permissions there."""

    kind = "member"
    permission = "adding an identity to the organization needs a member of Project Collection Administrators"

    def __init__(self, project: ProjectPart, cluster: ClusterIdentityPart) -> None:
        super().__init__(f"identity of {cluster.name}")
        self._project, self._cluster, self._known = project, cluster, ""

    def descriptor(self) -> str | None:
        """Return its descriptor; empty if it is not a member yet, None if the cluster has no identity."""
        return self._known if self._cluster.principal else None

    def _look(self) -> SetupFinding:
        if not self._cluster.principal:
            return later("", _CLUSTER)
        if not self._project.id:
            return missing(_MEMBER)
        self._known = self._find()
        return EXISTS if self._known else missing(_MEMBER)

    def _make(self) -> None:
        body = {
            "accessLevel": {"accountLicenseType": "express", "licensingSource": "account"},
            "servicePrincipal": {
                "origin": "aad",
                "originId": self._cluster.principal,
                "subjectKind": "servicePrincipal",
            },
            "projectEntitlements": [{"group": {"groupType": "projectReader"}, "projectRef": {"id": self._project.id}}],
        }
        response = self._project.client.send_entitlement(body)
        if response.get("isSuccess") is False:
            errors = (response.get("operationResult") or {}).get("errors") or []
            reason = "; ".join(str(error.get("value")) for error in errors) or "no reason given"
            raise AzureError(f"the organization does not accept it: {reason}", "see Organization settings > Users")
        self._known = self._find()

    def _find(self) -> str:
        client = self._project.client
        wanted = self._cluster.principal.lower()
        found = next((row for row in client.service_principals() if str(row.get("originId")).lower() == wanted), None)
        return client.identity_descriptor(str(found["descriptor"])) if found else ""


class BuildService:
    """The identity that runs of the project use in Azure DevOps, with ``System.AccessToken``."""

    def __init__(self, project: ProjectPart) -> None:
        self._project, self._known = project, ""

    def descriptor(self) -> str:
        """Return its descriptor; empty if the project does not exist yet."""
        project = self._project
        if not self._known and project.id:
            mark = f":Build:{project.id}".lower()
            for text in (project.id, f"{project.name} Build Service ({project.client.name})"):
                found = [str(row["descriptor"]) for row in project.client.identities(text)]
                self._known = next((known for known in found if known.lower().endswith(mark)), "")
                if self._known:
                    break
        return self._known
