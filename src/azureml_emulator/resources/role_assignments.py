"""Who may do what: role assignments on the subscription, a resource group or a resource, and the calls about them.

An assignment is a resource like others, and applies to its scope and everything below it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.identity.role_definitions import ROLES, RoleDefinition, role_of
from azureml_emulator.resources.rest_resources import ResourceStore, RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

_PROVIDER = "/providers/Microsoft.Authorization"
_ASSIGNMENTS = f"{_PROVIDER}/roleAssignments"
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
# Data planes whose paths end in that of a workspace, and their subjects; their POSTs only look things up.
_DATA_PLANES = ("/history/", "/data/", "/modelregistry/", "/mlflow/")
_LOOK_UPS = ("rundata", "batchGetResolvedUris", "search", "query")
_FILTER = re.compile(r"principalId eq '([^']*)'|assignedTo\('([^']*)'\)|(atScope\(\))")


def action_of(method: str, path: str) -> tuple[str, str]:
    """Return the action of a call to the resource manager, such as ``Microsoft.Web/sites/write``.

    Returns:
        The action, and the path of its target; both empty for calls that need no role.
    """
    start = path.lower().find("/subscriptions/")
    if start < 0:
        return "", ""
    before, scope = path[:start], path[start:].rstrip("/")
    if before.startswith(_DATA_PLANES):
        workspace = "/".join(scope.split("/")[:9])
        looks = method == "GET" or scope.rpartition("/")[2] in _LOOK_UPS
        return (
            f"Microsoft.MachineLearningServices/workspaces/experiments/runs/{'read' if looks else 'write'}",
            workspace,
        )
    head, found, tail = scope.rpartition("/providers/")
    if not found:
        kind = "subscriptions/resourceGroups" if len(scope.split("/")) > 3 else "subscriptions"
        return f"Microsoft.Resources/{kind}/{_VERBS.get(method, 'action')}", scope
    provider, *parts = tail.split("/")
    kinds, verb = parts[::2], _VERBS.get(method, "action")
    if parts and parts[-1].lower() == "checknameavailability":
        return f"{provider}/{parts[-1]}/read", head
    if method == "POST":
        # The last part is the action: after a resource, it is in the place of another kind.
        scope = scope.rpartition("/")[0]
    elif len(parts) % 2:  # a list of what is in the resource above
        scope = f"{head}/providers/{provider}/{'/'.join(parts[:-1])}" if len(parts) > 1 else head
    return "/".join([provider, *kinds, verb]), scope.rstrip("/")


class RoleAssignments:
    """The assignments of all principals, and the check of calls against them.

    Args:
        store: Keeps the assignments.
    """

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        # Paths of the assignments: every call uses them, and they are below whatever they apply to.
        self._paths: dict[str, None] | None = None

    def assign(self, principal: str, role: str, scope: str) -> str:
        """Give a principal a role, by name, on a scope; return the path of the assignment.

        Raises:
            ServiceRefusalError: 400, the role does not exist here.
        """
        found = _role(role)
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{principal} {found.id} {scope.lower()}")
        path = f"{scope.rstrip('/')}{_ASSIGNMENTS}/{name}"
        return self._keep(path, _assignment(principal, found, scope, "ServicePrincipal")).id

    def allows(self, principal: str, action: str, scope: str, data: bool = False) -> bool:
        """Return whether a role of a principal, on a scope or above it, allows an action."""
        target = f"{scope.lower().rstrip('/')}/"
        for item in self._all():
            properties = item.properties
            above = str(properties["scope"]).lower().rstrip("/")
            role = role_of(str(properties["roleDefinitionId"]))
            held = properties["principalId"] == principal and target.startswith(f"{above}/")
            if held and role is not None and role.allows(action, data):
                return True
        return False

    def require(self, claims: Mapping[str, Any], action: str, scope: str, data: bool = False) -> None:
        """Refuse an action that no role of the caller allows. Raises ServiceRefusalError."""
        principal = str(claims.get("oid") or "")
        if not self.allows(principal, action, scope, data):
            client = claims.get("appid") or principal
            message = (
                f"The client {client!r} with object id {principal!r} does not have authorization to perform action"
                f" {action!r} over scope {scope!r}: none of its role assignments there or above allows it. If access was"
                " granted recently, sign in again."
            )
            raise ServiceRefusalError(403, "AuthorizationFailed", message)

    def authorise(self, claims: Json, method: str, path: str) -> None:
        """Refuse a call to the resource manager that no role of the caller allows. Raises ServiceRefusalError."""
        action, scope = action_of(method, path)
        if action:
            self.require(claims, action, scope)

    def routes(self) -> list[Route]:
        """Return the paths, below any scope."""
        definitions = "/{scope:path}" + _PROVIDER + "/roleDefinitions"
        return [
            route("/{scope:path}" + _ASSIGNMENTS, GET=self._list),
            route("/{scope:path}" + _ASSIGNMENTS + "/{name}", GET=self._get, PUT=self._put, DELETE=self._delete),
            route("/{scope:path}" + _PROVIDER + "/permissions", GET=self._list_permissions),
            route(definitions, GET=self._list_definitions),
            route(definitions + "/{name}", GET=self._get_definition),
        ]

    def _all(self) -> list[RestResource]:
        if self._paths is None:
            kept = [item.id for item in self._store.below("/subscriptions")]
            self._paths = {path: None for path in kept if _ASSIGNMENTS.lower() in path.lower()}
        return [item for path in list(self._paths) if (item := self._store.find(path)) is not None]

    def _keep(self, path: str, body: Json) -> RestResource:
        self._all()
        made, _ = self._store.put(path, body)
        assert self._paths is not None
        self._paths[made.id] = None
        return made

    def _list(self, call: RestCall) -> Response:
        scope, asked = _scope(call).lower(), call.query.get("$filter", "")
        wanted = _FILTER.fullmatch(asked.strip()) if asked else None
        if asked and wanted is None:
            raise malformed(
                f"the filter {asked!r} is not supported; use principalId eq '…', assignedTo('…') or atScope()"
            )
        principal = wanted and (wanted[1] or wanted[2])
        found = []
        for item in self._all():
            at = str(item.properties["scope"]).lower()
            inside = scope.startswith(at) or (at.startswith(scope) and not (wanted and wanted[3]))
            if inside and principal in (None, item.properties["principalId"]):
                found.append(item.to_dict())
        return reply({"value": found})

    def _list_permissions(self, call: RestCall) -> Response:
        """Return what the caller may do on a scope, by all of its roles on it and above."""
        target, principal = f"{_scope(call).lower()}/", str(call.claims.get("oid") or "")
        found = [
            role.permissions()
            for item in self._all()
            if item.properties["principalId"] == principal
            and target.startswith(f"{str(item.properties['scope']).lower().rstrip('/')}/")
            and (role := role_of(str(item.properties["roleDefinitionId"]))) is not None
        ]
        return reply({"value": found})

    def _get(self, call: RestCall) -> Response:
        found = self._store.find(call.path)
        if found is None:
            message = f"The role assignment {call.names['name']!r} is not found."
            raise ServiceRefusalError(404, "RoleAssignmentNotFound", message)
        return reply(found.to_dict())

    def _put(self, call: RestCall) -> Response:
        try:
            uuid.UUID(call.names["name"])
            principal = str(uuid.UUID(str(call.properties.get("principalId"))))
        except ValueError as error:
            message = "The name of a role assignment, and its principalId, must be GUIDs."
            raise ServiceRefusalError(400, "InvalidRoleAssignmentId", message) from error
        role, scope = _role(str(call.properties.get("roleDefinitionId") or "")), _scope(call)
        for item in self._all():
            known = item.properties
            same = (known["principalId"], role_of(known["roleDefinitionId"]), str(known["scope"]).lower())
            if same == (principal, role, scope.lower()):
                if item.id.lower() == call.path.lower():
                    return reply(item.to_dict())
                raise ServiceRefusalError(409, "RoleAssignmentExists", "The role assignment already exists.")
        if self._store.find(call.path) is not None:
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            raise ServiceRefusalError(409, "RoleAssignmentUpdateNotPermitted", message)
        kind = str(call.properties.get("principalType") or "ServicePrincipal")
        return reply(self._keep(call.path, _assignment(principal, role, scope, kind)).to_dict(), 201)

    def _delete(self, call: RestCall) -> Response:
        found = self._store.find(call.path)
        if found is None:
            return reply(None, 204)
        self._store.delete(call.path)
        return reply(found.to_dict())

    def _list_definitions(self, call: RestCall) -> Response:
        name = re.fullmatch(r"\s*roleName eq '([^']*)'\s*", call.query.get("$filter", ""))
        found = [role.describe(_scope(call)) for role in ROLES if name is None or role.name == name[1]]
        return reply({"value": found})

    def _get_definition(self, call: RestCall) -> Response:
        found = role_of(call.names["name"])
        if found is None:
            message = f"The role definition {call.names['name']!r} does not exist."
            raise ServiceRefusalError(404, "RoleDefinitionDoesNotExist", message)
        return reply(found.describe(_scope(call)))


def _scope(call: RestCall) -> str:
    return f"/{call.names['scope']}"


def _role(text: str) -> RoleDefinition:
    found = role_of(text)
    if found is None:
        message = (
            f"The role definition {text!r} does not exist; roles here are {', '.join(role.name for role in ROLES)}."
        )
        raise ServiceRefusalError(400, "RoleDefinitionDoesNotExist", message)
    return found


def _assignment(principal: str, role: RoleDefinition, scope: str, kind: str) -> Json:
    definition = f"/{'/'.join(scope.split('/')[1:3])}{_PROVIDER}/roleDefinitions/{role.id}"
    return {
        "properties": {
            "roleDefinitionId": definition, "principalId": principal, "principalType": kind, "scope": scope.rstrip("/"),
        }
    }  # fmt: skip
