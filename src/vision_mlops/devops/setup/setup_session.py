"""A requested set-up: which services, which environments, and what is left to do by hand afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vision_mlops.core.errors import ConfigError
from vision_mlops.devops.devops_client import DevOpsClient, organization_authorization
from vision_mlops.devops.pipeline_files import FOLDER, PipelineFiles, no_pipelines, read_pipelines
from vision_mlops.devops.setup.first_push import push, push_commands
from vision_mlops.devops.setup.github_parts import GithubPlan
from vision_mlops.devops.setup.setup_part import SetupPart
from vision_mlops.devops.setup.setup_plan import SetupPlan, SetupRequest
from vision_mlops.devops.setup.stage_settings import Stage, read_stages
from vision_mlops.devops.workflow_files import workflow_environments


class SetupSession:
    """The parts of a set-up, and what follows it."""

    def __init__(
        self, request: SetupRequest, files: PipelineFiles, plan: SetupPlan | None, github: GithubPlan | None
    ) -> None:
        self._request, self._files, self._plan, self._github = request, files, plan, github

    def parts(self) -> Iterator[SetupPart]:
        """Yield all parts, in the order in which they are looked at and created."""
        if self._plan is not None:
            yield from self._plan.parts()
        if self._github is not None:
            yield from self._github.parts()

    @property
    def is_empty(self) -> bool:
        """Whether the repository exists and nothing has been pushed to it."""
        return self._plan is not None and bool(self._plan.repository.id) and self._plan.repository.empty

    def push(self) -> str:
        """Push the current commit; returns the address of the repository. Raises AzureError."""
        assert self._plan is not None
        push(self._plan.repository, self._request.root, organization_authorization()())
        return self._plan.repository.url

    def commands(self, *, pushed: bool) -> list[str]:
        """Return commands that finish the set-up."""
        lines = push_commands(self._plan.repository) if self._plan is not None and self.is_empty and not pushed else []
        return lines + (self._github.commands(tuple(self._files.group_variables)) if self._github is not None else [])


@contextmanager
def open_setup(request: SetupRequest, told: Callable[[str], None]) -> Iterator[SetupSession]:
    """Read everything that a set-up needs to know from the project.

    Args:
        request: What is asked for.
        told: Gets a message if a service makes us wait.

    Raises:
        ConfigError: an option is missing or malformed.
        PipelineError: the pipelines or workflows cannot be read.
        MissingExtraError: the Azure packages are not installed.
    """
    if not request.github and not request.organization:
        raise ConfigError(
            "--organization is missing", "give --organization https://dev.azure.com/NAME, or --github OWNER/NAME"
        )
    if request.organization and not request.project:
        raise ConfigError("--project is missing", "give --project NAME; it is created if it does not exist")
    names = tuple(name.strip() for name in request.environments.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        message = f"--environments {request.environments!r} does not name different environments"
        raise ConfigError(message, "separate them with commas: dev,prod")
    files = _read_files(request)
    stages = read_stages(names, request.root)
    github = _github_plan(request, files, stages) if request.github else None
    if not request.organization:
        yield SetupSession(request, files, None, github)
        return
    client = DevOpsClient(request.organization, organization_authorization(), told=told)
    try:
        yield SetupSession(request, files, SetupPlan(client, request, stages, files), github)
    finally:
        client.close()


def _read_files(request: SetupRequest) -> PipelineFiles:
    """Read the pipelines, which a project with workflows at GitHub need not have."""
    needed = request.organization or (request.root / FOLDER).exists()
    environments = [] if needed else workflow_environments(request.root)
    return no_pipelines(environments) if environments else read_pipelines(request.root)


def _github_plan(request: SetupRequest, files: PipelineFiles, stages: tuple[Stage, ...]) -> GithubPlan:
    """Plan the environments of the workflows, else those of the request, each with its settings."""
    by_name = {stage.name: stage for stage in stages}
    places = workflow_environments(request.root) or list(by_name)
    known = ((place, by_name.get(files.stage_of(place, tuple(by_name)))) for place in places)
    found = [(place, stage) for place, stage in known if stage is not None]
    # The first environment comes first, whatever the order of the workflows.
    return GithubPlan(request.github, tuple(sorted(found, key=lambda item: stages.index(item[1]))))
