"""The identity that the pipelines of an environment act as, its roles, and the connections that may act as it.

``infrastructure/main.bicep`` creates such an identity with its roles; then these parts exist already. For a project without
our infrastructure, they are created here with the same roles, and no wider ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from vision_mlops.azure.identities import Federation, ManagedIdentity
from vision_mlops.devops.setup.setup_part import EXISTS, SetupFinding, SetupPart, blocked, differing, missing
from vision_mlops.devops.setup.stage_settings import Stage

WEB_APP = "MLOPS_WEB_APP"
"""Variable with the name of the web app."""
_SITES_VERSION = "2023-12-01"
PIPELINE_ROLES: tuple[tuple[str, str], ...] = (
    ("AzureML Data Scientist", "workspace"),
    ("Storage Blob Data Contributor", "storage"),
    ("Storage File Data Privileged Contributor", "storage"),
    ("Key Vault Secrets Officer", "vault"),
    ("AcrPush", "registry"),
    ("Managed Identity Operator", "pullIdentity"),
    ("Azure Container Instances Contributor Role", "group"),
    ("Web Plan Contributor", "plans"),
    ("Website Contributor", "site"),
)
"""Roles of the identity of pipelines, and the place of each: those of infrastructure/main.bicep."""
FIRST_ROLES = (("Container Registry Tasks Contributor", "registry"), ("AzureML Registry User", "modelRegistry"))
"""Further roles in the first environment, where images and models are created."""
LATER_ROLES = (
    ("Container Registry Data Importer and Data Reader", "registry"),
    ("AcrPull", "firstRegistry"),
    ("Reader", "modelRegistry"),
)
"""Further roles in all other environments, which take both from the first."""


class IdentityPart(SetupPart):
    """A user-assigned managed identity; it is in ``found`` once it exists."""

    kind = "identity"
    permission = "creating an identity needs the role Managed Identity Contributor on the resource group"

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(name)
        self.stage = stage
        self.found: ManagedIdentity | None = None
        self._roles: dict[str, list[tuple[str, str]]] = {}

    def _look(self) -> SetupFinding:
        self.found = self.stage.directory.identity(self.name)
        return EXISTS if self.found else missing(f"in {self.stage.settings.resource_group}")

    def _make(self) -> None:
        self.found = self.stage.directory.create(self.name)

    def holds(self, role: str, scope: str) -> bool:
        """Return whether it has a role, by the id of its definition, at a scope or above it."""
        if self.found is None:
            return False
        group = self.stage.directory.group
        inside = f"{scope.lower()}/".startswith(f"{group.lower()}/")
        asked = group if inside else scope
        if asked not in self._roles:
            self._roles[asked] = self.stage.directory.held_roles(self.found.principal_id, asked)
        return any(
            held == role and f"{scope.lower()}/".startswith(f"{at.rstrip('/')}/") for held, at in self._roles[asked]
        )

    def assign(self, role: str, scope: str) -> None:
        """Give it a role at a scope."""
        assert self.found is not None
        self.stage.directory.assign(self.found.principal_id, role, scope)
        self._roles.clear()


class RolePart(SetupPart):
    """A role of the identity."""

    kind = "role"
    permission = "assigning roles needs the role Role Based Access Control Administrator on the resource group"

    def __init__(self, identity: IdentityPart, role: str, scope: str) -> None:
        super().__init__(f"{role} on {scope.rpartition('/')[2]}", identity.name)
        self._identity, self._role, self._scope, self._id = identity, role, scope, ""

    def _look(self) -> SetupFinding:
        if self._identity.found is None:
            return missing()
        self._id = self._id or self._identity.stage.directory.role_id(self._role)
        if not self._id:
            return blocked("Azure has no role of this name", "check the cloud in AZURE_CLOUD")
        return EXISTS if self._identity.holds(self._id, self._scope) else missing()

    def _make(self) -> None:
        self._identity.assign(self._id, self._scope)


class FederationPart(SetupPart):
    """A service connection or workflow may act as the identity.

    Args:
        identity: Who.
        name: Of the federated credential; what it may not have in it becomes a hyphen.
        origin: Returns issuer and subject of the tokens; both are empty while they are unknown.
    """

    kind = "federated credential"
    permission = "a federated credential needs the role Managed Identity Contributor on the identity"

    def __init__(self, identity: IdentityPart, name: str, origin: Callable[[], tuple[str, str]]) -> None:
        super().__init__(re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:120], identity.name)
        self._identity, self._origin = identity, origin

    def _look(self) -> SetupFinding:
        issuer, subject = self._origin()
        if self._identity.found is None or not issuer:
            return missing()
        kept = self._identity.stage.directory.federations(self._identity.name)
        if any((item.issuer, item.subject) == (issuer, subject) for item in kept):
            return EXISTS
        if any(item.name.lower() == self.name.lower() for item in kept):
            return differing(f"it is for another subject than {subject}")
        if len(kept) >= 20:
            return blocked("the identity has 20 federated credentials, and may have no more", "delete one of them")
        return missing(subject)

    def _make(self) -> None:
        self._identity.stage.directory.federate(self._identity.name, Federation(self.name, *self._origin()))


def role_parts(identity: IdentityPart, first: IdentityPart) -> Iterator[RolePart]:
    """Yield the roles of the identity of pipelines, on what the environment has.

    Args:
        identity: Who.
        first: That of the first environment.
    """
    scopes = _scopes(identity.stage)
    makes = identity.stage.name == first.stage.name
    if not makes:
        scopes["firstRegistry"] = _scopes(first.stage).get("registry", "")
    for role, place in (*PIPELINE_ROLES, *(FIRST_ROLES if makes else LATER_ROLES)):
        if scope := scopes.get(place, ""):
            yield RolePart(identity, role, scope)


def _scopes(stage: Stage) -> dict[str, str]:
    """Return the paths of the resources that roles are assigned on, as far as the environment has them."""
    properties, group, settings = stage.directory.workspace_properties(), stage.directory.group, stage.settings
    found = {"group": group}
    if properties:
        found["workspace"] = stage.directory.workspace
        found["storage"] = str(properties.get("storageAccount") or "")
        found["vault"] = str(properties.get("keyVault") or "")
        found["registry"] = str(properties.get("containerRegistry") or "")
    if settings.container_registry:
        name = settings.container_registry.partition(".")[0]
        found["registry"] = f"{group}/providers/Microsoft.ContainerRegistry/registries/{name}"
    if settings.key_vault and not settings.key_vault.startswith("https:"):
        found["vault"] = f"{group}/providers/Microsoft.KeyVault/vaults/{settings.key_vault}"
    if settings.registry_name:
        found["modelRegistry"] = stage.directory.registry_path(settings.registry_name)
    if settings.pull_identity:
        found["pullIdentity"] = settings.pull_identity
    if app := stage.values.get(WEB_APP):
        site = f"{group}/providers/Microsoft.Web/sites/{app}"
        # The pipeline creates an app that does not exist yet.
        found |= {"plans": group, "site": site if stage.directory.exists(site, _SITES_VERSION) else group}
    return found
