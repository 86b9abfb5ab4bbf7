"""What a client checks before it creates anything: regions, resource providers, free names, and existing resources."""

from __future__ import annotations

import re

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION
from azureml_emulator.resources.resource_description import resource_type
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.cloud_addresses import VAULT
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route
from azureml_emulator.storage.azurite import ACCOUNT

_ONE = "/subscriptions/{subscription}"
PROVIDERS = (
    "Microsoft.Authorization", "Microsoft.CognitiveServices", "Microsoft.ContainerInstance", "Microsoft.ContainerRegistry",
    "Microsoft.ContainerService", "Microsoft.Insights", "Microsoft.KeyVault", "Microsoft.MachineLearningServices",
    "Microsoft.ManagedIdentity", "Microsoft.Network", "Microsoft.OperationalInsights", "Microsoft.Resources",
    "Microsoft.Storage", "Microsoft.Web",
)  # fmt: skip
_RULES = {
    "storage": ("Microsoft.Storage/storageAccounts", re.compile(r"[a-z0-9]{3,24}")),
    "keyvault": ("Microsoft.KeyVault/vaults", re.compile(r"(?!.*--)[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")),
    "containerregistry": ("Microsoft.ContainerRegistry/registries", re.compile(r"[A-Za-z0-9]{5,50}")),
}


class ProviderRoutes:
    """The calls about the subscription as a whole that clients make before they create something."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def routes(self) -> list[Route]:
        """Return the paths."""
        require = self._require
        checks = ("Microsoft.Storage", "Microsoft.KeyVault", "Microsoft.ContainerRegistry")
        return [
            route(_ONE + "/locations", require, GET=self._locations),
            route(_ONE + "/providers", require, GET=self._list),
            route(_ONE + "/providers/{provider}", require, GET=self._get),
            route(_ONE + "/providers/{provider}/register", require, POST=self._register),
            *(
                route(f"{_ONE}/providers/{name}/checkNameAvailability", require, POST=self._check_name)
                for name in checks
            ),
            route(_ONE + "/resourceGroups/{group}/resources", require, GET=self._resources),
        ]

    def _require(self, call: RestCall) -> None:
        self._subscription.require_place(call.path)

    def _locations(self, call: RestCall) -> Response:
        region = {
            "id": f"/subscriptions/{call.names['subscription']}/locations/{LOCATION}",
            "name": LOCATION,
            "type": "Region",
            "displayName": "West Europe",
            "regionalDisplayName": "(Europe) West Europe",
            "metadata": {"regionType": "Physical", "regionCategory": "Recommended", "geographyGroup": "Europe"},
        }
        return reply({"value": [region]})

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page_of([self._described(name) for name in PROVIDERS], call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._described(self._known(call)))

    def _register(self, call: RestCall) -> Response:
        name = self._known(call)
        self._subscription.limits.unregistered.discard(name.lower())
        return reply(self._described(name))

    def _known(self, call: RestCall) -> str:
        wanted = call.names["provider"]
        found = next((name for name in PROVIDERS if name.lower() == wanted.lower()), None)
        if found is None:
            message = f"The resource namespace '{wanted}' is invalid."
            raise ServiceRefusalError(404, "InvalidResourceNamespace", message)
        return found

    def _described(self, name: str) -> Json:
        waiting = name.lower() in self._subscription.limits.unregistered
        return {
            "id": f"/subscriptions/{self._subscription.subscription}/providers/{name}",
            "namespace": name,
            "registrationState": "NotRegistered" if waiting else "Registered",
            "registrationPolicy": "RegistrationRequired",
            "resourceTypes": [],
        }

    def _check_name(self, call: RestCall) -> Response:
        kind, pattern = _RULES[call.path.split("/")[-2].partition(".")[2].lower()]
        name = str(call.body.get("name") or "")
        if str(call.body.get("type") or "").lower() != kind.lower():
            raise malformed(f"the type of the name must be {kind}")
        if not pattern.fullmatch(name):
            message = f"{name} is not a valid name of the type {kind}."
            return reply({"nameAvailable": False, "reason": "AccountNameInvalid", "message": message})
        own = {path.rpartition("/")[2] for path in self._always_there() if resource_type(path).lower() == kind.lower()}
        if name.lower() in {item.lower() for item in own | self._subscription.limits.taken}:
            return reply(
                {"nameAvailable": False, "reason": "AlreadyExists", "message": f"The name {name} is already taken."}
            )
        return reply({"nameAvailable": True, "reason": None, "message": None})

    def _always_there(self) -> list[str]:
        """Return the paths of the storage account, the vault, and the container registries of the workspaces."""
        here = self._subscription
        group = here.scope().rpartition("/providers/")[0]
        workspaces = here.store.children(f"{here.scope()}/workspaces")
        return [
            f"{group}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            f"{group}/providers/Microsoft.KeyVault/vaults/{VAULT}",
            *(
                str(item.properties["containerRegistry"])
                for item in workspaces
                if "containerRegistry" in item.properties
            ),
        ]

    def _resources(self, call: RestCall) -> Response:
        """Return what is in the resource group itself, including what always exists."""
        scope = call.path.rpartition("/")[0]
        rows = [_row(path, {}) for path in self._always_there()]
        for item in self._subscription.store.below(f"{scope}/providers"):
            if len(item.id.split("/")) == len(scope.split("/")) + 4 and "/Microsoft.Authorization/" not in item.id:
                rows.append(_row(item.id, item.body))
        return reply(self._subscription.page_of(rows, call))


def _row(path: str, body: Json) -> Json:
    name = path.rpartition("/")[2]
    return {
        "id": path,
        "name": name,
        "type": resource_type(path),
        "location": str(body.get("location") or LOCATION),
        "tags": body.get("tags") or {},
    }
