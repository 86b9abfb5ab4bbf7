"""What pipelines use: service connections, environments with their checks, variable groups."""

from __future__ import annotations

import uuid
from typing import Any

from testing.support.azure_devops.calls import PREVIEW, Answer, Call, Operation, rows
from testing.support.azure_devops.organization import TENANT, Organization, Project
from testing.support.azure_devops.refusals import Json, invalid, not_found, taken

_CHECKS = {"8c6f20a7-a545-4486-9777-f762fafe0d4d": "Approval", "2ef31ad6-baa0-403a-8b45-2cbc9b4e5563": "ExclusiveLock"}
_NEEDED = {
    "azurerm": (("subscriptionId", "subscriptionName", "environment", "scopeLevel", "creationMode"), ("tenantid",)),
    "dockerregistry": (("registryId", "registrytype", "subscriptionId"), ("tenantId", "loginServer", "scope")),
}


def _endpoints(call: Call) -> Answer:
    wanted = call.query.get("endpointNames", "").lower().split(",")
    found = [item for item in call.project.endpoints.values() if item["name"].lower() in wanted]
    return rows([item for item in found if not item.get("hidden")])


def _referenced(call: Call, key: str) -> Project:
    """The project that a body refers to. Raises RefusalError."""
    references = call.body.get(key) or []
    if not references or not references[0].get("projectReference", {}).get("id"):
        raise invalid(f"Value cannot be null. Parameter name: {key}", "VssPropertyValidationException")
    return call.organization.project(references[0]["projectReference"]["id"])


def _create_endpoint(call: Call) -> Answer:
    name, kind = call.text("name"), call.text("type").lower()
    project = _referenced(call, "serviceEndpointProjectReferences")
    if any(item["name"].lower() == name.lower() for item in project.endpoints.values()):
        message = f"Service connection with name {name} already exists. Only a user having a role on"
        raise taken("DuplicateServiceConnectionException", f"{message} service connection {name} can see it.")
    if kind not in _NEEDED:
        raise invalid(f"Unable to find service connection type '{kind}' using authentication scheme.")
    authorization, data = call.body.get("authorization") or {}, call.body.get("data") or {}
    parameters = authorization.get("parameters") or {}
    if authorization.get("scheme") != "WorkloadIdentityFederation":
        raise invalid(
            f"Unable to find service connection type '{kind}' using the scheme {authorization.get('scheme')}."
        )
    for key, holder in [(key, data) for key in _NEEDED[kind][0]] + [(key, parameters) for key in _NEEDED[kind][1]]:
        if not holder.get(key):
            raise invalid(f"Following fields in the service connection are not expected or missing: {key}.")
    uuid.UUID(str(parameters.get("serviceprincipalid")))
    made = {**call.body, "id": str(uuid.uuid4()), "type": kind, "isShared": False, "isReady": True, "owner": "Library"}
    issuer, subject = _origin(call.organization, project, name, made["id"])
    origin = {"workloadIdentityFederationIssuer": issuer, "workloadIdentityFederationSubject": subject}
    made["authorization"] = {"scheme": authorization["scheme"], "parameters": {**parameters, **origin}}
    project.endpoints[made["id"]] = made
    return 200, made


def _origin(organization: Organization, project: Project, name: str, id: str) -> tuple[str, str]:
    """Issuer and subject of the tokens of a connection, in the older or the newer form."""
    if organization.entra_issuer:
        subject = f"/eid1/c/pub/t/{TENANT[:22]}/a/{organization.id[:22]}/sc/{organization.id}/{id}"
        return f"https://login.microsoftonline.com/{TENANT}/v2.0", subject
    return f"https://vstoken.dev.azure.com/{organization.id}", f"sc://{organization.name}/{project.name}/{name}"


def _environments(call: Call) -> Answer:
    wanted = call.query.get("name", "").lower()
    return rows([item for item in call.project.environments.values() if wanted in ("", item["name"].lower())])


def _create_environment(call: Call) -> Answer:
    name, project = call.text("name"), call.project
    if any(item["name"].lower() == name.lower() for item in project.environments.values()):
        raise taken("EnvironmentExistsException", f"Environment with name {name} already exists.")
    number = next(call.organization.numbers)
    project.environments[number] = {
        "id": number, "name": name, "description": call.body.get("description", ""), "project": {"id": project.id},
    }  # fmt: skip
    return 200, project.environments[number]


def _checks(call: Call) -> Answer:
    kind, id = call.query.get("resourceType"), call.query.get("resourceId")
    found = [
        item
        for item in call.project.checks.values()
        if (item["resource"]["type"], item["resource"]["id"]) == (kind, id)
    ]
    whole = call.query.get("$expand") == "settings"
    return rows([item if whole else {key: item[key] for key in item if key != "settings"} for item in found])


def _write_check(call: Call) -> Answer:
    project, body = call.project, call.body
    number = int(call.names.get("number") or next(call.organization.numbers))
    if "number" in call.names and number not in project.checks:
        raise not_found(f"The check configuration {number}")
    kind = str((body.get("type") or {}).get("id") or "")
    if kind not in _CHECKS:
        raise invalid(f"The check type {kind} is not valid.", "InvalidCheckTypeException")
    resource = body.get("resource") or {}
    if resource.get("type") != "environment" or int(resource.get("id") or 0) not in project.environments:
        raise not_found("The resource of the check")
    if _CHECKS[kind] == "Approval":
        _check_approvers(call.organization, body.get("settings") or {})
    project.checks[number] = {**body, "id": number, "type": {"id": kind, "name": _CHECKS[kind]}}
    return 200, project.checks[number]


def _check_approvers(organization: Organization, settings: Json) -> None:
    known = {item["id"] for item in organization.identities}
    wanted = [item.get("id") for item in settings.get("approvers") or []]
    if not wanted or not set(wanted) <= known:
        raise invalid("The approvers of the check are not valid.", "InvalidApproversException")


def _groups(call: Call) -> Answer:
    wanted = call.query.get("groupName", "").lower()
    found = [item for item in call.project.groups.values() if wanted in ("", item["name"].lower())]
    return rows([_without_secrets(item) for item in found])


def _without_secrets(group: Json) -> Json:
    variables: dict[str, Any] = group["variables"]
    shown = {key: {**item, "value": None} if item.get("isSecret") else item for key, item in variables.items()}
    return {**group, "variables": shown}


def _write_group(call: Call) -> Answer:
    name, project = call.text("name"), _referenced(call, "variableGroupProjectReferences")
    number = int(call.names.get("number") or next(call.organization.numbers))
    kept = project.groups.get(number)
    if "number" in call.names and kept is None:
        raise not_found(f"VS402379: Variable group with ID {number}", "VariableGroupNotFoundException")
    if any(item["name"].lower() == name.lower() and key != number for key, item in project.groups.items()):
        raise taken("VariableGroupExistsException", f"VS402380: Variable group with name {name} already exists.")
    if not call.body.get("variables"):
        raise invalid("VS402378: A variable group needs variables.", "InvalidVariableGroupException")
    variables = {}
    for key, item in call.body["variables"].items():
        secret = item.get("isSecret") and item.get("value") is None and kept
        variables[key] = kept["variables"][key] if secret and kept else item
    project.groups[number] = {**call.body, "id": number, "isShared": False, "variables": variables}
    return 200, _without_secrets(project.groups[number])


OPERATIONS = (
    Operation("GET", "{project}/_apis/serviceendpoint/endpoints", _endpoints),
    Operation("POST", "_apis/serviceendpoint/endpoints", _create_endpoint, permission="the role Creator"),
    Operation("GET", "{project}/_apis/distributedtask/environments", _environments),
    Operation(
        "POST", "{project}/_apis/distributedtask/environments", _create_environment, permission="the role Creator"
    ),
    Operation("GET", "{project}/_apis/pipelines/checks/configurations", _checks, PREVIEW),
    Operation("POST", "{project}/_apis/pipelines/checks/configurations", _write_check, PREVIEW, "Administrator"),
    Operation(
        "PATCH", "{project}/_apis/pipelines/checks/configurations/{number}", _write_check, PREVIEW, "Administrator"
    ),
    Operation("GET", "{project}/_apis/distributedtask/variablegroups", _groups),
    Operation("POST", "_apis/distributedtask/variablegroups", _write_group, permission="the role Creator"),
    Operation("PUT", "_apis/distributedtask/variablegroups/{number}", _write_group, permission="Administrator"),
)
