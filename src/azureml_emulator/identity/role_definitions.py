"""The built-in roles of Azure that matter here: what each allows, and whether it allows an action."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from azureml_emulator.rest.rest_calls import Json

_ML = "Microsoft.MachineLearningServices"
_WS = f"{_ML}/workspaces"
_READ_ALL = ("*/read",)
_BLOB_SERVICE = "Microsoft.Storage/storageAccounts/blobServices"
_CONTAINERS = f"{_BLOB_SERVICE}/containers"
_BLOBS = f"{_CONTAINERS}/blobs"
_DELEGATE = f"{_BLOB_SERVICE}/generateUserDelegationKey/action"


@dataclass(frozen=True)
class RoleDefinition:
    """A role: actions with ``*`` as a wildcard, and exceptions from them.

    Attributes:
        id: Id, which is the same in every tenant.
        name: Name, as the portal shows it.
        actions: Actions on resources.
        excepted: Excluded actions on resources.
        data_actions: Actions on the content of resources.
        data_excepted: Excluded actions on the content of resources.
    """

    id: str
    name: str
    actions: tuple[str, ...]
    excepted: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    data_excepted: tuple[str, ...] = ()

    def allows(self, action: str, data: bool = False) -> bool:
        """Return whether it allows an action, or an action on data."""
        allowed = self.data_actions if data else self.actions
        excepted = self.data_excepted if data else self.excepted
        return _matches(action, allowed) and not _matches(action, excepted)

    def permissions(self) -> Json:
        """Return what it allows, as the service does."""
        return {
            "actions": list(self.actions),
            "notActions": list(self.excepted),
            "dataActions": list(self.data_actions),
            "notDataActions": list(self.data_excepted),
        }

    def describe(self, scope: str) -> Json:
        """Return the role as the service does."""
        return {
            "id": f"{scope}/providers/Microsoft.Authorization/roleDefinitions/{self.id}",
            "name": self.id,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": self.name,
                "type": "BuiltInRole",
                "description": f"The built-in role {self.name}.",
                "assignableScopes": ["/"],
                "permissions": [self.permissions()],
            },
        }


_COGNITIVE = "Microsoft.CognitiveServices"
_VISION = f"{_COGNITIVE}/accounts/CustomVision"
_PROJECTS = f"{_VISION}/projects"
_SEE_COGNITIVE = (f"{_COGNITIVE}/*/read",)
_NO_EXPORT = (f"{_PROJECTS}/export/read",)
_REGISTRIES = "Microsoft.ContainerRegistry/registries"
_MANAGE_ROLES = ("Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write")
ROLES = (
    RoleDefinition("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", ("*",)),
    RoleDefinition("b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", ("*",), _MANAGE_ROLES),
    RoleDefinition("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", _READ_ALL),
    RoleDefinition(
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        (*_READ_ALL, "Microsoft.Authorization/*", "Microsoft.Support/*"),
    ),
    RoleDefinition(
        "f6c7c914-8db3-469d-8ca1-694a8f32e121",
        "AzureML Data Scientist",
        (f"{_WS}/*/read", f"{_WS}/*/action", f"{_WS}/*/delete", f"{_WS}/*/write"),
        (
            f"{_WS}/delete", f"{_WS}/write", f"{_WS}/computes/*/write", f"{_WS}/computes/*/delete",
            f"{_WS}/computes/listKeys/action", f"{_WS}/listKeys/action", f"{_WS}/hubs/write", f"{_WS}/hubs/delete",
            f"{_WS}/featurestores/write", f"{_WS}/featurestores/delete",
        ),
    ),
    RoleDefinition(
        "e503ece1-11d0-4e8e-8e2c-7a6c3bf38815",
        "AzureML Compute Operator",
        (f"{_WS}/computes/*", f"{_WS}/notebooks/vm/*"),
    ),
    RoleDefinition("7f951dda-4ed3-4680-a7ca-43fe172d538d", "AcrPull", (f"{_REGISTRIES}/pull/read",)),
    RoleDefinition(
        "8311e382-0749-4cb8-b61a-304f252e45ec", "AcrPush", (f"{_REGISTRIES}/pull/read", f"{_REGISTRIES}/push/write")
    ),
    RoleDefinition("1823dd4f-9b8c-4ab6-ab4e-7397a3684615", "AzureML Registry User", (f"{_ML}/registries/*",)),
    RoleDefinition(
        "00482a5a-887f-4fb3-b363-3b7fe8e74483",
        "Key Vault Administrator",
        _READ_ALL,
        data_actions=("Microsoft.KeyVault/vaults/*",),
    ),
    RoleDefinition(
        "4633458b-17de-408a-b874-0445c86b69e6",
        "Key Vault Secrets User",
        (),
        data_actions=("Microsoft.KeyVault/vaults/secrets/getSecret/action",),
    ),
    RoleDefinition(
        "fb382eab-e894-4461-af04-94435c366c3f",
        "Container Registry Tasks Contributor",
        (
            f"{_REGISTRIES}/read", f"{_REGISTRIES}/scheduleRun/action",
            f"{_REGISTRIES}/runs/*", f"{_REGISTRIES}/tasks/*",
            f"{_REGISTRIES}/taskruns/*", f"{_REGISTRIES}/agentpools/*",
            f"{_REGISTRIES}/listBuildSourceUploadUrl/action",
        ),
    ),
    RoleDefinition(
        "577a9874-89fd-4f24-9dbd-b5034d0ad23a",
        "Container Registry Data Importer and Data Reader",
        (
            f"{_REGISTRIES}/importImage/action", f"{_REGISTRIES}/read",
            f"{_REGISTRIES}/pull/read",
            f"{_REGISTRIES}/operationStatuses/read",
        ),
    ),
    RoleDefinition(
        "5d977122-f97e-4b4d-a52f-6b43003ddb4d",
        "Azure Container Instances Contributor Role",
        (
            "Microsoft.Authorization/*/read", "Microsoft.ContainerInstance/containerGroups/*",
            "Microsoft.Insights/alertRules/*", "Microsoft.ResourceHealth/availabilityStatuses/read",
            "Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Support/*",
        ),
    ),
    RoleDefinition(
        "f1a07417-d97a-45cb-824c-7a7467783830",
        "Managed Identity Operator",
        (
            "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
            "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.Authorization/*/read",
            "Microsoft.Insights/alertRules/*", "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Resources/deployments/*", "Microsoft.Support/*",
        ),
    ),
    RoleDefinition(
        "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
        "Key Vault Secrets Officer",
        ("Microsoft.Authorization/*/read", "Microsoft.KeyVault/*/read", "Microsoft.Support/*"),
        data_actions=("Microsoft.KeyVault/vaults/secrets/*",),
    ),
    RoleDefinition(
        "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
        "Storage Blob Data Reader",
        (f"{_CONTAINERS}/read", _DELEGATE),
        data_actions=(f"{_BLOBS}/read",),
    ),
    RoleDefinition(
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        "Storage Blob Data Contributor",
        (f"{_CONTAINERS}/delete", f"{_CONTAINERS}/read", f"{_CONTAINERS}/write", _DELEGATE),
        data_actions=(
            f"{_BLOBS}/delete", f"{_BLOBS}/read", f"{_BLOBS}/write", f"{_BLOBS}/move/action", f"{_BLOBS}/add/action",
        ),
    ),
    RoleDefinition(
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        "Storage Blob Data Owner",
        (f"{_CONTAINERS}/*", _DELEGATE),
        data_actions=(f"{_BLOBS}/*",),
    ),
    RoleDefinition("db58b8e5-c6ad-4a2a-8342-4190687cbf4a", "Storage Blob Delegator", (_DELEGATE,)),
    RoleDefinition(
        "69566ab7-960f-475b-8e7c-b3118f30c6bd",
        "Storage File Data Privileged Contributor",
        (),
        data_actions=("Microsoft.Storage/storageAccounts/fileServices/*",),
    ),
    RoleDefinition(
        "2cc479cb-7b4d-49a8-b449-8c00fd0f0a4b",
        "Web Plan Contributor",
        (
            "Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Support/*",
            "Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Web/serverFarms/*", "Microsoft.Web/hostingEnvironments/Join/Action",
        ),
    ),
    RoleDefinition(
        "de139f84-1756-47ae-9be6-808fbbe84772",
        "Website Contributor",
        (
            "Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Insights/components/*",
            "Microsoft.ResourceHealth/availabilityStatuses/read", "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Support/*",
            "Microsoft.Web/certificates/*", "Microsoft.Web/listSitesAssignedToHostName/read",
            "Microsoft.Web/serverFarms/join/action", "Microsoft.Web/serverFarms/read", "Microsoft.Web/sites/*",
        ),
    ),
    RoleDefinition(
        "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68",
        "Cognitive Services Contributor",
        (
            "Microsoft.Authorization/*/read", f"{_COGNITIVE}/*", "Microsoft.Insights/alertRules/*",
            "Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Support/*",
        ),
    ),
    RoleDefinition(
        "a97b65f3-24c7-4388-baec-2e87135dc908",
        "Cognitive Services User",
        (*_SEE_COGNITIVE, f"{_COGNITIVE}/accounts/listkeys/action", "Microsoft.Support/*"),
        data_actions=(f"{_COGNITIVE}/*",),
    ),
    RoleDefinition(
        "c1ff6cc2-c111-46fe-8896-e0ef812ad9f3",
        "Cognitive Services Custom Vision Contributor",
        _SEE_COGNITIVE,
        data_actions=(f"{_VISION}/*",),
    ),
    RoleDefinition(
        "0a5ae4ab-0d65-4eeb-be61-29fc9b54394b",
        "Cognitive Services Custom Vision Trainer",
        _SEE_COGNITIVE,
        data_actions=(f"{_VISION}/*",),
        data_excepted=(f"{_PROJECTS}/action", f"{_PROJECTS}/delete", f"{_PROJECTS}/import/action", *_NO_EXPORT),
    ),
    RoleDefinition(
        "93586559-c37d-4a6b-ba08-b9f0940c2d73",
        "Cognitive Services Custom Vision Reader",
        _SEE_COGNITIVE,
        data_actions=(f"{_VISION}/*/read", f"{_PROJECTS}/predictions/query/action"),
        data_excepted=_NO_EXPORT,
    ),
    RoleDefinition(
        "5c4089e1-6d96-4d2f-b296-c1bc7137275f",
        "Cognitive Services Custom Vision Deployment",
        _SEE_COGNITIVE,
        data_actions=(
            f"{_VISION}/*/read", f"{_PROJECTS}/predictions/*", f"{_PROJECTS}/iterations/publish/*",
            f"{_PROJECTS}/iterations/export/*", f"{_PROJECTS}/quicktest/*", f"{_VISION}/classify/*", f"{_VISION}/detect/*",
        ),
        data_excepted=_NO_EXPORT,
    ),
    RoleDefinition(
        "4abbcc35-e782-43d8-92c5-2d3f1bd2253f",
        "Azure Kubernetes Service Cluster User Role",
        (
            "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
            "Microsoft.ContainerService/managedClusters/read",
        ),
    ),
    RoleDefinition(
        "a7ffa36f-339b-4b5c-8bdf-e2c188b2c0eb",
        "Azure Kubernetes Service RBAC Writer",
        (
            "Microsoft.Authorization/*/read", "Microsoft.Resources/subscriptions/operationresults/read",
            "Microsoft.Resources/subscriptions/read", "Microsoft.Resources/subscriptions/resourceGroups/read",
        ),
        data_actions=("Microsoft.ContainerService/managedClusters/*",),
    ),
)  # fmt: skip


@cache
def role_of(text: str) -> RoleDefinition | None:
    """Return a role by its name, its id, or the path of its definition; None if it is not built in."""
    last = text.rstrip("/").rpartition("/")[2].lower()
    return next((role for role in ROLES if last in (role.id, role.name.lower())), None)


def _matches(action: str, patterns: tuple[str, ...]) -> bool:
    return any(_pattern(pattern).fullmatch(action) for pattern in patterns)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Return a pattern for an action with wildcards. In the middle, ``*`` stands for any number of parts, including none.

    So ``workspaces/*/read`` applies to the workspace itself, and ``computes/*/write`` to a compute.
    """
    parts = [re.escape(part).replace(r"\*", ".*") for part in text.split("/*/")]
    return re.compile("/(?:.*/)?".join(parts), re.IGNORECASE)
