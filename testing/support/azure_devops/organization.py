"""What an organization has: projects with all that is in them, members, and permissions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from testing.support.azure_devops.refusals import Json, not_found

BUILD_SECURITY = "33344d9c-fc72-4d6f-aba5-fa317101a7e9"
PROCESS = "6b724908-ef14-45cf-84f8-768b5384da45"
TENANT = "22222222-2222-2222-2222-222222222222"


@dataclass
class Project:
    """A project with its resources, each kind by id."""

    id: str
    name: str
    state: str = "wellFormed"
    pipelines_enabled: bool = True
    repositories: dict[str, Json] = field(default_factory=dict)
    queues: dict[int, Json] = field(default_factory=dict)
    endpoints: dict[str, Json] = field(default_factory=dict)
    environments: dict[int, Json] = field(default_factory=dict)
    checks: dict[int, Json] = field(default_factory=dict)
    groups: dict[int, Json] = field(default_factory=dict)
    definitions: dict[int, Json] = field(default_factory=dict)
    policies: dict[int, Json] = field(default_factory=dict)
    permitted: dict[tuple[str, str], set[int]] = field(default_factory=dict)


class Organization:
    """An organization.

    Attributes:
        projects: By id.
        identities: People and groups, as the service shows them.
        principals: Members that are no people.
        entries: Access control: allow and deny by token and descriptor.
        entra_issuer: Whether connections get the newer issuer, that of Microsoft Entra ID.
        polls: How often the creation of a project is under way when it is asked for.
        fails: What the creation of a project fails with.
        remote: Address of the repositories that are made; that of the service where empty.
    """

    def __init__(self, name: str = "contoso") -> None:
        self.name = name
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self.projects: dict[str, Project] = {}
        self.operations: dict[str, Json] = {}
        self.identities: list[Json] = []
        self.principals: list[Json] = []
        self.entries: dict[tuple[str, str], Json] = {}
        self.entra_issuer = False
        self.polls = 2
        self.fails = ""
        self.remote = ""
        self.numbers = count(1)
        self.on_project: Callable[[Project], None] = lambda project: None
        self.add_person("Ann Approver", "ann@contoso.com")

    def add_person(self, name: str, mail: str, descriptor: str = "", id: str = "") -> Json:
        """Have somebody in the organization."""
        found = id or str(uuid.uuid5(uuid.NAMESPACE_URL, mail or name))
        value = {"Account": mail, "Mail": mail, "SchemaClassName": "User"}
        made = {
            "id": found,
            "descriptor": descriptor or f"Microsoft.IdentityModel.Claims.ClaimsIdentity;{TENANT}\\{mail}",
            "subjectDescriptor": f"aad.{found}",
            "providerDisplayName": name,
            "isActive": True,
            "members": [],
            "memberOf": [],
            "memberIds": [],
            "properties": {key: {"$type": "System.String", "$value": text} for key, text in value.items()},
            "resourceVersion": 2,
            "metaTypeId": 0,
        }
        self.identities.append(made)
        return made

    def add_project(self, name: str) -> Project:
        """Have a project, with what each new one has: a repository, Microsoft's agents and a build service."""
        made = Project(str(uuid.uuid4()), name)
        self.projects[made.id] = made
        self.add_repository(made, name)
        for queue in ("Default", "Azure Pipelines"):
            number = next(self.numbers)
            pool = {"id": number, "isHosted": queue != "Default", "name": queue, "poolType": "automation"}
            made.queues[number] = {"id": number, "name": queue, "projectId": made.id, "pool": pool}
        build = f"Microsoft.TeamFoundation.ServiceIdentity;{self.id}:Build:{made.id}"
        self.add_person(f"{name} Build Service ({self.name})", made.id, build)
        self.on_project(made)
        return made

    def add_repository(self, project: Project, name: str) -> Json:
        """Have an empty repository."""
        made = {
            "id": str(uuid.uuid4()),
            "name": name,
            "project": {"id": project.id, "name": project.name, "state": project.state, "visibility": "private"},
            "size": 0,
            "isDisabled": False,
            "remoteUrl": self.remote or f"https://dev.azure.com/{self.name}/{project.name}/_git/{name}",
        }
        project.repositories[str(made["id"])] = made
        return made

    def project(self, text: str) -> Project:
        """A project by its name or id. Raises RefusalError."""
        for found in self.projects.values():
            if text.lower() in (found.id, found.name.lower()) and found.state != "new":
                return found
        raise not_found(f"TF200016: The project {text}", "ProjectDoesNotExistWithNameException")
