"""Pipelines, what they may use, who may start them, and the members of the organization."""

from __future__ import annotations

import uuid

from testing.support.azure_devops.calls import PREVIEW, Answer, Call, Operation, rows
from testing.support.azure_devops.organization import BUILD_SECURITY, Project
from testing.support.azure_devops.refusals import Json, invalid, not_found, taken


def _definitions(call: Call) -> Answer:
    wanted = call.query.get("name", "").lower()
    found = [item for item in call.project.definitions.values() if wanted in ("", item["name"].lower())]
    return rows([{key: item[key] for key in ("id", "name", "path", "revision", "queueStatus")} for item in found])


def _definition(call: Call) -> Answer:
    found = call.project.definitions.get(int(call.names["number"]))
    if found is None:
        raise not_found(f"The definition {call.names['number']}", "DefinitionNotFoundException")
    return 200, found


def _write_definition(call: Call) -> Answer:
    name, project, body = call.text("name"), call.project, call.body
    number = int(call.names.get("number") or next(call.organization.numbers))
    kept = project.definitions.get(number)
    if "number" in call.names and kept is None:
        raise not_found(f"The definition {number}", "DefinitionNotFoundException")
    if kept and body.get("revision") != kept["revision"]:
        raise taken("InvalidDefinitionInQueueException", "The revision of the definition is not the latest one.")
    if any(item["name"].lower() == name.lower() and key != number for key, item in project.definitions.items()):
        message = f"A build definition with the name {name} already exists in the folder."
        raise taken("DefinitionExistsException", message)
    repository, process = body.get("repository") or {}, body.get("process") or {}
    if repository.get("type") != "TfsGit" or repository.get("id") not in project.repositories:
        raise invalid("The repository associated with this pipeline could not be found.", "RepositoryNotFoundException")
    if process.get("type") != 2 or not process.get("yamlFilename"):
        raise invalid("The process of the definition is not valid.", "InvalidDefinitionException")
    if (body.get("queue") or {}).get("id") not in project.queues:
        raise not_found("The agent queue", "TaskAgentQueueNotFoundException")
    revision = kept["revision"] + 1 if kept else 1
    defaults = {"path": "\\", "queueStatus": "enabled", "quality": "definition"}
    project.definitions[number] = {**defaults, **body, "id": number, "revision": revision}
    return 200, project.definitions[number]


_KINDS = ("endpoint", "environment", "variablegroup", "queue")


def _resource(call: Call) -> tuple[Project, str, str]:
    project, kind, id = call.project, call.names["kind"], call.names["id"]
    if kind not in _KINDS:
        raise invalid(f"The resource type {kind} is not valid.", "InvalidResourceTypeException")
    kept: dict[str, object] = {
        "endpoint": project.endpoints,
        "environment": {str(key): None for key in project.environments},
        "variablegroup": {str(key): None for key in project.groups},
        "queue": {str(key): None for key in project.queues},
    }[kind]  # type: ignore[assignment]
    if id not in kept:
        raise not_found(f"The {kind} {id}", "ResourceNotFoundException")
    return project, kind, id


def _permissions(call: Call) -> Answer:
    project, kind, id = _resource(call)
    permitted = sorted(project.permitted.get((kind, id), ()))
    return 200, {
        "resource": {"type": kind, "id": id},
        "pipelines": [{"id": each, "authorized": True} for each in permitted],
    }


def _permit(call: Call) -> Answer:
    project, kind, id = _resource(call)
    for item in call.body.get("pipelines") or []:
        if item.get("id") not in project.definitions:
            raise not_found(f"The definition {item.get('id')}", "DefinitionNotFoundException")
        kept = project.permitted.setdefault((kind, id), set())
        (kept.add if item.get("authorized") else kept.discard)(item["id"])
    return _permissions(call)


def _access(call: Call) -> Answer:
    if call.names["space"].lower() != BUILD_SECURITY:
        raise not_found("The security namespace", "InvalidSecurityNamespaceException")
    token = call.query.get("token", "")
    wanted = call.query.get("descriptors", "").split(",")
    found = {key: entry for (at, key), entry in call.organization.entries.items() if at == token and key in wanted}
    return rows([{"inheritPermissions": True, "token": token, "acesDictionary": found}] if found else [])


def _allow(call: Call) -> Answer:
    token, organization = call.text("token"), call.organization
    entries = call.body.get("accessControlEntries") or []
    known = {item["descriptor"] for item in organization.identities}
    for entry in entries:
        if entry.get("descriptor") not in known:
            raise invalid("TF14045: The identity cannot be resolved.", "IdentityNotFoundException")
        kept = organization.entries.get((token, entry["descriptor"]), {"allow": 0, "deny": 0})
        merged = call.body.get("merge")
        organization.entries[token, entry["descriptor"]] = {
            "descriptor": entry["descriptor"],
            "allow": entry["allow"] | (kept["allow"] if merged else 0),
            "deny": entry["deny"] | (kept["deny"] if merged else 0),
        }
    return rows([organization.entries[token, entry["descriptor"]] for entry in entries])


def _identities(call: Call) -> Answer:
    if subjects := call.query.get("subjectDescriptors"):
        by_subject = {item["subjectDescriptor"]: item for item in call.organization.identities}
        return rows([by_subject[each] for each in subjects.split(",") if each in by_subject])
    text = call.query.get("filterValue", "").lower()
    if not text or not call.query.get("searchFilter"):
        raise invalid("The search filter is not valid.", "IdentitySearchFilterException")
    return rows([item for item in call.organization.identities if text in _names(item)])


def _names(identity: Json) -> list[str]:
    properties = identity["properties"]
    return [
        identity["providerDisplayName"].lower(),
        *(properties[key]["$value"].lower() for key in ("Account", "Mail")),
    ]


def _principals(call: Call) -> Answer:
    return rows(call.organization.principals)


def _entitle(call: Call) -> Answer:
    wanted = call.body.get("servicePrincipal") or {}
    origin = str(uuid.UUID(str(wanted.get("originId"))))
    licence = call.body.get("accessLevel") or {}
    if wanted.get("origin") != "aad" or licence.get("licensingSource") != "account":
        error = {"key": 5000, "value": "The service principal or its license is not valid."}
        return 200, {"isSuccess": False, "operationResult": {"isSuccess": False, "errors": [error]}}
    for item in call.body.get("projectEntitlements") or []:
        call.organization.project(item["projectRef"]["id"])
    made = call.organization.add_person(
        f"principal {origin}", "", f"Microsoft.VisualStudio.Services.Claims.AadServicePrincipal;{origin}"
    )
    principal = {
        "subjectKind": "servicePrincipal",
        "origin": "aad",
        "originId": origin,
        "descriptor": made["subjectDescriptor"],
    }
    call.organization.principals.append(principal)
    return 200, {"isSuccess": True, "operationResult": {"isSuccess": True, "errors": []}}


_PERMISSION = "{project}/_apis/pipelines/pipelinepermissions/{kind}/{id}"
OPERATIONS = (
    Operation("GET", "{project}/_apis/build/definitions", _definitions),
    Operation("POST", "{project}/_apis/build/definitions", _write_definition, permission="Create build pipeline"),
    Operation("GET", "{project}/_apis/build/definitions/{number}", _definition),
    Operation("PUT", "{project}/_apis/build/definitions/{number}", _write_definition, permission="Edit build pipeline"),
    Operation("GET", _PERMISSION, _permissions, PREVIEW),
    Operation("PATCH", _PERMISSION, _permit, PREVIEW, "Administrator of the resource"),
    Operation("GET", "_apis/accesscontrollists/{space}", _access),
    Operation("POST", "_apis/accesscontrolentries/{space}", _allow, permission="Administer build permissions"),
    Operation("GET", "_apis/identities", _identities),
    Operation("GET", "_apis/graph/serviceprincipals", _principals, PREVIEW),
    Operation("POST", "_apis/serviceprincipalentitlements", _entitle, PREVIEW, "Project Collection Administrators"),
)
