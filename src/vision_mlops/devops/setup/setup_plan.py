"""Everything that the pipelines of a project need, ordered so that each part comes after those that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import ConfigError
from vision_mlops.devops.devops_client import DevOpsClient
from vision_mlops.devops.pipeline_files import AZURE, DOCKER, HOSTED, PipelineFiles
from vision_mlops.devops.setup.connection_parts import (
    AzureConnectionPart,
    ConnectionPart,
    ForeignConnectionPart,
    RegistryConnectionPart,
)
from vision_mlops.devops.setup.environment_parts import ApprovalPart, EnvironmentPart, ExclusiveLockPart
from vision_mlops.devops.setup.identity_parts import FederationPart, IdentityPart, role_parts
from vision_mlops.devops.setup.pipeline_parts import BranchPolicyPart, PermissionPart, PipelinePart, QueuePart
from vision_mlops.devops.setup.project_parts import ProjectPart, RepositoryPart
from vision_mlops.devops.setup.setup_part import SetupPart
from vision_mlops.devops.setup.stage_settings import Stage
from vision_mlops.devops.setup.starter_parts import BuildService, ClusterIdentityPart, MemberPart, StarterPart
from vision_mlops.devops.setup.variable_group_part import VariableGroupPart


@dataclass(frozen=True)
class SetupRequest:
    """What is asked for.

    Attributes:
        root: Folder of the project.
        environments: Names separated by commas; the first is where models are trained.
        organization: Address of the organization of Azure DevOps; empty for none.
        project: Name of the project in it.
        repository: Name of the repository in the project; that of the project if empty.
        branch: The branch that pipelines are read from, and pull requests go to.
        approvers: Who approves deployments to all environments but the first.
        github: ``OWNER/NAME`` of a repository whose workflows deploy; empty for none.
    """

    root: Path
    environments: str
    organization: str = ""
    project: str = ""
    repository: str = ""
    branch: str = "main"
    approvers: tuple[str, ...] = ()
    github: str = ""


class SetupPlan:
    """The parts of a set-up.

    Args:
        client: The organization.
        request: What is asked for.
        stages: Environments, the first of which is where models are trained.
        files: What the pipelines refer to.

    Raises:
        ConfigError: the pipelines refer to an environment without settings.
    """

    def __init__(
        self, client: DevOpsClient, request: SetupRequest, stages: tuple[Stage, ...], files: PipelineFiles
    ) -> None:
        self._approvers, self._files = request.approvers, files
        self._stages = {stage.name: stage for stage in stages}
        self._approved = [stage.name for stage in stages[1:]]
        self.project = ProjectPart(client, request.project)
        self.repository = RepositoryPart(self.project, request.repository or request.project, request.branch)
        self._identities = {name: IdentityPart(stage, stage.identity) for name, stage in self._stages.items()}
        uses = files.pipelines
        self._connections: dict[str, ConnectionPart | ForeignConnectionPart] = {}
        for use in uses:
            for name, kind in sorted(use.connections.items()):
                self._connections.setdefault(name, self._connection(name, kind))
        self._environments = {
            name: EnvironmentPart(self.project, name) for use in uses for name in sorted(use.environments)
        }
        self._groups = {
            name: VariableGroupPart(self.project, name, self._stage(name), files.group_variables)
            for use in uses
            for name in sorted(use.groups)
        }
        self._pools = {name: QueuePart(self.project, name) for use in uses for name in sorted(use.pools)}
        hosted = self._pools[HOSTED] = QueuePart(self.project, HOSTED)
        self._pipelines = {use.name: PipelinePart(self.repository, hosted, use.name, use.path) for use in uses}

    def parts(self) -> Iterator[SetupPart]:
        """Yield all parts. Each is requested only after the parts before it have been looked at."""
        yield self.project
        yield self.repository
        yield from self._pools.values()
        for identity in self._identities.values():
            yield identity
            yield from role_parts(identity, next(iter(self._identities.values())))
        for connection in self._connections.values():
            yield connection
            if isinstance(connection, ConnectionPart):
                name = f"azure-devops-{self.project.name}-{connection.name}"
                yield FederationPart(connection.identity, name, connection.origin)
        for environment in self._environments.values():
            yield environment
            yield ExclusiveLockPart(environment)
            if self._stage(environment.name).name in self._approved:
                yield ApprovalPart(environment, self._approvers)
        yield from self._groups.values()
        yield from self._pipelines.values()
        yield from self._permissions()
        yield from self._starters()
        for use in self._files.pipelines:
            if use.for_pull_requests:
                yield BranchPolicyPart(self.repository, self._pipelines[use.name])

    def _permissions(self) -> Iterator[PermissionPart]:
        """Yield permissions of each pipeline to use what it refers to, and nothing else."""
        for use in self._files.pipelines:
            pipeline = self._pipelines[use.name]
            for name in sorted(use.connections):
                yield PermissionPart(pipeline, "endpoint", self._connections[name])
            for name in sorted(use.environments):
                yield PermissionPart(pipeline, "environment", self._environments[name])
            for name in sorted(use.groups):
                yield PermissionPart(pipeline, "variablegroup", self._groups[name])
            for name in sorted(use.pools):
                yield PermissionPart(pipeline, "queue", self._pools[name])

    def _starters(self) -> Iterator[SetupPart]:
        """Yield what starts pipelines besides people: jobs that call back, and runs of other pipelines."""
        members: dict[str, list[MemberPart]] = {}
        for use in self._files.pipelines:
            names = [name for name, kind in sorted(use.connections.items()) if kind == AZURE]
            for stage in dict.fromkeys(self._stage(name).name for name in names if use.called_back):
                if stage not in members:
                    clusters = [ClusterIdentityPart(self._stages[stage], name) for name in self._stages[stage].clusters]
                    yield from clusters
                    members[stage] = [MemberPart(self.project, cluster) for cluster in clusters]
                    yield from members[stage]
                for member in members[stage]:
                    yield StarterPart(self._pipelines[use.name], member.name, member.descriptor)
        service = BuildService(self.project)
        started = sorted({name for use in self._files.pipelines for name in use.starts})
        for name in started:
            yield StarterPart(self._pipelines[name], "the build service", service.descriptor)

    def _connection(self, name: str, kind: str) -> ConnectionPart | ForeignConnectionPart:
        if kind not in (AZURE, DOCKER):
            return ForeignConnectionPart(self.project, name, kind)
        identity = self._identities[self._stage(name).name]
        made = AzureConnectionPart if kind == AZURE else RegistryConnectionPart
        return made(self.project, name, identity)

    def _stage(self, name: str) -> Stage:
        """Return the environment that a name of the pipelines belongs to."""
        found = self._files.stage_of(name, tuple(self._stages))
        if found not in self._stages:
            raise ConfigError(
                f"ado_pipelines/variables/{found}.yml names {name!r}, and --environments has no {found!r}",
                f"add it: --environments {','.join([*self._stages, found])}, or remove it from the pipelines: see"
                " docs/how_to/devops_init.md, One environment only",
            )
        return self._stages[found]
