"""GitHub as the host of the repository: workflows act as the identity of an environment, without a secret.

Azure learns here who they are. Environments and variables of the repository are up to ``gh``, whose commands are returned.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from vision_mlops.core.errors import ConfigError
from vision_mlops.devops.setup.identity_parts import FederationPart, IdentityPart, role_parts
from vision_mlops.devops.setup.setup_part import SetupPart
from vision_mlops.devops.setup.stage_settings import Stage

ISSUER = "https://token.actions.githubusercontent.com"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+")


class GithubPlan:
    """What the workflows of a repository need.

    Args:
        repository: ``OWNER/NAME``.
        stages: Environments, each with its name at GitHub.

    Raises:
        ConfigError: the name of the repository is malformed.
    """

    def __init__(self, repository: str, stages: tuple[tuple[str, Stage], ...]) -> None:
        if not _REPOSITORY.fullmatch(repository):
            raise ConfigError(f"--github {repository!r} is not a repository", "write it like --github contoso/vision")
        self._repository = repository
        self._environments = [(name, IdentityPart(stage, stage.identity)) for name, stage in stages]

    def parts(self) -> Iterator[SetupPart]:
        """Yield identities with their roles, and the credentials of the workflows."""
        for environment, identity in self._environments:
            yield identity
            yield from role_parts(identity, self._environments[0][1])
            yield self._federation(environment, identity)

    def _federation(self, environment: str, identity: IdentityPart) -> FederationPart:
        origin = (ISSUER, f"repo:{self._repository}:environment:{environment}")
        return FederationPart(identity, f"github-{self._repository}-{environment}", lambda: origin)

    def commands(self, names: tuple[str, ...]) -> list[str]:
        """Return commands for ``gh`` that create environments and set variables, except ids that do not exist yet.

        Args:
            names: Variables that the workflows read.
        """
        lines = []
        for environment, identity in self._environments:
            stage = identity.stage
            lines.append(f"gh api --method PUT repos/{self._repository}/environments/{environment}")
            client = identity.found.client_id if identity.found else ""
            tenant = identity.found.tenant_id if identity.found else ""
            values = {"AZURE_CLIENT_ID": client, "AZURE_TENANT_ID": tenant}
            values |= {name: stage.values[name] for name in names if name in stage.values and name not in values}
            for name, value in values.items():
                where = f"--repo {self._repository} --env {environment}"
                lines += [f"gh variable set {name} {where} --body {shlex.quote(value)}"] if value else []
        return lines
