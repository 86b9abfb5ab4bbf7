"""Projects, their creation, and what is set up in them once: repositories, queues, policies."""

from __future__ import annotations

import uuid

from testing.support.azure_devops.calls import Answer, Call, Operation, rows
from testing.support.azure_devops.organization import PROCESS, Project
from testing.support.azure_devops.refusals import Json, invalid, not_found, taken

_BUILD_POLICY = "0609b952-1397-4640-95ec-e00a01b2c241"


def _shown(project: Project) -> Json:
    control = {"sourceControlType": "Git", "gitEnabled": "True", "tfvcEnabled": "False"}
    template = {"templateName": "Agile", "templateTypeId": PROCESS}
    return {
        "id": project.id,
        "name": project.name,
        "state": project.state,
        "revision": 11,
        "visibility": "private",
        "capabilities": {"versioncontrol": control, "processTemplate": template},
    }


def _list(call: Call) -> Answer:
    found = [_shown(item) for item in call.organization.projects.values() if item.state != "new"]
    return rows([{key: value for key, value in item.items() if key != "capabilities"} for item in found])


def _get(call: Call) -> Answer:
    return 200, _shown(call.project)


def _create(call: Call) -> Answer:
    name, organization = call.text("name"), call.organization
    if any(item.name.lower() == name.lower() for item in organization.projects.values()):
        message = (
            f"TF200019: The following project already exists on the Azure DevOps Server: {name}. You cannot create a"
        )
        raise taken(
            "ProjectAlreadyExistsException", f"{message} new project with the same name as an existing project."
        )
    if set("/:\\~&%;@'\"?<>|#$*}{,+=[]") & set(name) or name.endswith("."):
        raise invalid(f"TF200010: The name of the project {name} is not valid.", "InvalidProjectNameException")
    wanted = call.body.get("capabilities") or {}
    if wanted.get("processTemplate", {}).get("templateTypeId") != PROCESS:
        raise invalid("TF402353: The process template does not exist.", "ProcessTemplateNotFoundException")
    if wanted.get("versioncontrol", {}).get("sourceControlType") not in ("Git", "Tfvc"):
        raise invalid("TF402354: The version control is not valid.", "VersionControlException")
    made = organization.add_project(name)
    made.state = "new"
    operation = str(uuid.uuid4())
    organization.operations[operation] = {"id": operation, "left": organization.polls, "project": made.id}
    return 202, {"id": operation, "status": "queued", "url": f"/_apis/operations/{operation}"}


def _operation(call: Call) -> Answer:
    organization = call.organization
    found = organization.operations.get(call.names["operation"])
    if found is None:
        raise not_found("The operation")
    found["left"] -= 1
    if found["left"] > 0:
        return 200, {"id": found["id"], "status": "inProgress"}
    if organization.fails:
        organization.projects.pop(found["project"], None)
        return 200, {"id": found["id"], "status": "failed", "detailedMessage": organization.fails}
    organization.projects[found["project"]].state = "wellFormed"
    return 200, {"id": found["id"], "status": "succeeded"}


def _processes(call: Call) -> Answer:
    basic = {"id": str(uuid.UUID(int=2)), "name": "Basic", "isDefault": False, "type": "system"}
    return rows([basic, {"id": PROCESS, "name": "Agile", "isDefault": True, "type": "system"}])


def _repositories(call: Call) -> Answer:
    return rows(list(call.project.repositories.values()))


def _create_repository(call: Call) -> Answer:
    name, project = call.text("name"), call.project
    if any(item["name"].lower() == name.lower() for item in project.repositories.values()):
        message = f"TF400948: A Git repository with the name {name} already exists."
        raise taken("GitRepositoryNameAlreadyExistsException", message)
    return 201, call.organization.add_repository(project, name)


def _queues(call: Call) -> Answer:
    project, wanted = call.project, call.query.get("queueNames", "").lower().split(",")
    if not project.pipelines_enabled:
        return rows([])
    return rows([item for item in project.queues.values() if item["name"].lower() in wanted])


def _policies(call: Call) -> Answer:
    wanted = call.query.get("policyType", "")
    return rows([item for item in call.project.policies.values() if not wanted or item["type"]["id"] == wanted])


def _write_policy(call: Call) -> Answer:
    project, body = call.project, call.body
    number = int(call.names.get("number") or next(call.organization.numbers))
    if "number" in call.names and number not in project.policies:
        raise not_found(f"TF402459: The policy {number}", "PolicyConfigurationNotFoundException")
    settings = body.get("settings") or {}
    if (body.get("type") or {}).get("id") != _BUILD_POLICY:
        raise invalid("TF402456: The policy type is not registered.", "PolicyTypeNotFoundException")
    if settings.get("buildDefinitionId") not in project.definitions:
        raise invalid("TF402455: The build definition does not exist.", "PolicyImplementationException")
    if not settings.get("scope"):
        raise invalid("TF402454: A policy needs a scope.", "PolicyImplementationException")
    kind = {"id": _BUILD_POLICY, "displayName": "Build"}
    revision = project.policies.get(number, {}).get("revision", 0) + 1
    project.policies[number] = {**body, "id": number, "type": kind, "isDeleted": False, "revision": revision}
    return 200, project.policies[number]


OPERATIONS = (
    Operation("GET", "_apis/projects", _list),
    Operation("POST", "_apis/projects", _create, permission="Create new projects"),
    Operation("GET", "_apis/projects/{project}", _get),
    Operation("GET", "_apis/operations/{operation}", _operation),
    Operation("GET", "_apis/process/processes", _processes),
    Operation("GET", "{project}/_apis/git/repositories", _repositories),
    Operation("POST", "{project}/_apis/git/repositories", _create_repository, permission="CreateRepository"),
    Operation("GET", "{project}/_apis/distributedtask/queues", _queues),
    Operation("GET", "{project}/_apis/policy/configurations", _policies),
    Operation("POST", "{project}/_apis/policy/configurations", _write_policy, permission="Edit policies"),
    Operation("PUT", "{project}/_apis/policy/configurations/{number}", _write_policy, permission="Edit policies"),
)
