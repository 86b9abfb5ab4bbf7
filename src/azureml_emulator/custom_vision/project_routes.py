"""Projects and their tags, and the domains of projects."""

from __future__ import annotations

import json
import sqlite3

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import TRAINING
from azureml_emulator.custom_vision.domains import GENERAL, PLATFORMS, domains
from azureml_emulator.custom_vision.vision_access import VisionAccess, VisionHandler
from azureml_emulator.custom_vision.vision_calls import id_of, json_of, word_of
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment, new_id
from azureml_emulator.custom_vision.vision_refusals import bad_request, not_found
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, reply

CLASSIFICATIONS = ("Multiclass", "Multilabel")
TAG_TYPES = ("Regular", "Negative", "GeneralProduct")
_NAME_LENGTH = 256


class ProjectRoutes:
    """The calls about projects, tags and domains.

    Args:
        access: Checks callers.
        database: Keeps them.
    """

    def __init__(self, access: VisionAccess, database: VisionDatabase) -> None:
        self._access = access
        self._database = database

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        one = "/projects/{project}"

        def at(path: str, **handlers: VisionHandler) -> BaseRoute:
            return self._access.route(TRAINING, path, **handlers)

        return [
            at("/domains", GET=lambda account, call: reply(domains())),
            at("/domains/{domain}", GET=self._domain),
            at("/projects", GET=self._list, POST=self._create),
            at(one, GET=self._get, PATCH=self._update, DELETE=self._delete),
            at(one + "/tags", GET=self._list_tags, POST=self._create_tag),
            at(one + "/tags/{tag}", GET=self._get_tag, PATCH=self._update_tag, DELETE=self._delete_tag),
        ]

    def find(self, account: RestResource, call: RestCall) -> sqlite3.Row:
        """Return the project of a call. Raises ServiceRefusalError."""
        wanted = id_of(call.names["project"], "projectId")
        found = self._database.row("select * from projects where id = ? and account = ?", (wanted, account.id.lower()))
        if found is None:
            raise not_found("Project", wanted)
        return found

    def tags(self, project: str) -> list[Json]:
        """Return the tags of a project with the number of their images, by name."""
        rows = self._database.rows(
            "select t.*, (select count(*) from image_tags it join images i on i.id = it.image where it.tag = t.id"
            " and not i.gone) as image_count from tags t where project = ? order by name",
            (project,),
        )
        return [_shown_tag(row, row["image_count"]) for row in rows]

    @staticmethod
    def _domain(account: RestResource, call: RestCall) -> Response:
        found = next((item for item in domains() if item["id"] == call.names["domain"].lower()), None)
        if found is None:
            raise not_found("Domain", call.names["domain"])
        return reply(found)

    def _list(self, account: RestResource, call: RestCall) -> Response:
        rows = self._database.rows(
            "select * from projects where account = ? order by rowid desc", (account.id.lower(),)
        )
        return reply([_shown(row) for row in rows])

    def _create(self, account: RestResource, call: RestCall) -> Response:
        query, created = call.query, moment()
        settings = _settings({
            "domainId": query.get("domainId") or GENERAL,
            "classificationType": query.get("classificationType") or "Multilabel",
            "targetExportPlatforms": [part for part in query.get("targetExportPlatforms", "").split(",") if part],
        })  # fmt: skip
        most, owner, name = self._access.limits_of(account).projects, account.id.lower(), query.get("name", "")
        with self._database.change():
            self._check_name(owner, name)
            if self._database.number("select count(*) from projects where account = ?", (owner,)) >= most:
                raise bad_request("ExceedProjectLimit", f"The account has {most} projects, which is its limit.")
            self._database.insert("projects", {
                "id": (made := new_id()), "account": owner, "name": name, "description": query.get("description", ""),
                "settings": json.dumps(settings), "created": created, "modified": created,
            })  # fmt: skip
        return reply(self._shown_now(made))

    def _check_name(self, owner: str, name: str, project: str = "") -> None:
        if not name.strip() or len(name) > _NAME_LENGTH:
            raise bad_request("ProjectName", f"The name of a project must have 1 to {_NAME_LENGTH} characters.")
        query = "select 1 from projects where account = ? and lower(name) = lower(?) and id != ?"
        if self._database.row(query, (owner, name, project)) is not None:
            raise bad_request("ProjectNameNotUnique", f"The account already has a project with the name {name!r}.")

    def _get(self, account: RestResource, call: RestCall) -> Response:
        return reply(_shown(self.find(account, call)))

    def _update(self, account: RestResource, call: RestCall) -> Response:
        kept, given = self.find(account, call), json_of(call)
        name = str(given.get("name") or kept["name"])
        changes = given.get("settings") or {}
        if not isinstance(changes, dict):
            raise bad_request("", "settings is not an object.")
        settings = _settings({**json.loads(kept["settings"]), **changes})
        description = str(given["description"] or "") if "description" in given else kept["description"]
        with self._database.change() as connection:
            self._check_name(account.id.lower(), name, kept["id"])
            connection.execute(
                "update projects set name = ?, description = ?, settings = ?, modified = ? where id = ?",
                (name, description, json.dumps(settings), moment(), kept["id"]),
            )
        return reply(self._shown_now(kept["id"]))

    def _delete(self, account: RestResource, call: RestCall) -> Response:
        kept = self.find(account, call)
        query = "select name from iterations where project = ? and publish_name != ''"
        published = self._database.row(query, (kept["id"],))
        if published is not None:
            message = f"The iteration {published['name']!r} of the project is published; unpublish it first."
            raise bad_request("IterationIsPublished", message)
        with self._database.change() as connection:
            connection.execute("delete from projects where id = ?", (kept["id"],))
        return reply(None, 204)

    def _shown_now(self, project: str) -> Json:
        found = self._database.row("select * from projects where id = ?", (project,))
        assert found is not None
        return _shown(found)

    def _list_tags(self, account: RestResource, call: RestCall) -> Response:
        return reply(self._tags_at(self.find(account, call)["id"], call))

    def _tags_at(self, project: str, call: RestCall) -> list[Json]:
        """Return the tags of a project, as they are now or as they were when an iteration was trained."""
        if not call.query.get("iterationId"):
            return self.tags(project)
        wanted = id_of(call.query["iterationId"], "iterationId")
        found = self._database.row("select content from iterations where id = ? and project = ?", (wanted, project))
        if found is None:
            raise not_found("Iteration", wanted)
        shown: list[Json] = json.loads(found["content"])["tags"]
        return shown

    def _create_tag(self, account: RestResource, call: RestCall) -> Response:
        project, query = self.find(account, call)["id"], call.query
        kind = word_of(query.get("type") or "Regular", "type", TAG_TYPES, "TagType")
        most = self._access.limits_of(account).tags
        with self._database.change():
            self._check_tag(project, query.get("name", ""), kind)
            if self._database.number("select count(*) from tags where project = ?", (project,)) >= most:
                raise bad_request("ExceedTagPerProjectLimit", f"The project has {most} tags, which is its limit.")
            self._database.insert("tags", {
                "id": (made := new_id()), "project": project, "name": query["name"], "type": kind,
                "description": query.get("description", ""), "created": moment(),
            })  # fmt: skip
        return reply(self._tag(project, made))

    def _check_tag(self, project: str, name: str, kind: str, tag: str = "") -> None:
        if not name.strip() or len(name) > _NAME_LENGTH:
            raise bad_request("TagName", f"The name of a tag must have 1 to {_NAME_LENGTH} characters.")
        others = self._database.rows("select name, type from tags where project = ? and id != ?", (project, tag))
        if any(other["name"].lower() == name.lower() for other in others):
            raise bad_request("TagNameNotUnique", f"The project already has a tag with the name {name!r}.")
        if kind != "Regular" and any(other["type"] == kind for other in others):
            raise bad_request(f"Multiple{kind}Tag", f"The project already has a tag of the type {kind}.")

    def _tag(self, project: str, tag: str, among: list[Json] | None = None) -> Json:
        wanted = id_of(tag, "tagId")
        tags = self.tags(project) if among is None else among
        found = next((item for item in tags if item["id"] == wanted), None)
        if found is None:
            raise not_found("Tag", wanted)
        return found

    def _get_tag(self, account: RestResource, call: RestCall) -> Response:
        project = self.find(account, call)["id"]
        return reply(self._tag(project, call.names["tag"], self._tags_at(project, call)))

    def _update_tag(self, account: RestResource, call: RestCall) -> Response:
        project = self.find(account, call)["id"]
        given, kept = json_of(call), self._tag(project, call.names["tag"])
        name = str(given.get("name") or kept["name"])
        kind = word_of(given.get("type") or kept["type"], "type", TAG_TYPES, "TagType")
        description = str(given["description"] or "") if "description" in given else kept["description"]
        with self._database.change() as connection:
            self._check_tag(project, name, kind, kept["id"])
            connection.execute(
                "update tags set name = ?, type = ?, description = ? where id = ?",
                (name, kind, description, kept["id"]),
            )
        return reply(self._tag(project, kept["id"]))

    def _delete_tag(self, account: RestResource, call: RestCall) -> Response:
        kept = self._tag(self.find(account, call)["id"], call.names["tag"])
        with self._database.change() as connection:
            connection.execute("delete from tags where id = ?", (kept["id"],))
        return reply(None, 204)


def _settings(given: Json) -> Json:
    """Return the settings of a project, checked and completed. Raises ServiceRefusalError."""
    domain = str(given.get("domainId") or GENERAL).lower()
    if domain not in {item["id"] for item in domains()}:
        raise bad_request(
            "ProjectUnknownDomain", f"The domain {domain!r} is not one of those that GET domains returns."
        )
    kind = word_of(
        given.get("classificationType"), "classificationType", CLASSIFICATIONS, "ProjectUnknownClassification"
    )
    platforms = given.get("targetExportPlatforms") or []
    if not isinstance(platforms, list):
        raise bad_request("ProjectUnsupportedExportPlatform", "targetExportPlatforms is not a list.")
    targets = [
        word_of(item, "targetExportPlatforms", PLATFORMS, "ProjectUnsupportedExportPlatform") for item in platforms
    ]
    return {
        "domainId": domain, "classificationType": kind, "targetExportPlatforms": targets, "useNegativeSet": True,
        "detectionParameters": None, "imageProcessingSettings": {"augmentationMethods": {}},
    }  # fmt: skip


def _shown(row: sqlite3.Row) -> Json:
    return {
        "id": row["id"], "name": row["name"], "description": row["description"], "settings": json.loads(row["settings"]),
        "created": row["created"], "lastModified": row["modified"], "thumbnailUri": "", "drModeEnabled": False,
        "status": "Succeeded",
    }  # fmt: skip


def _shown_tag(row: sqlite3.Row, count: int) -> Json:
    return {
        "id": row["id"], "name": row["name"], "description": row["description"], "type": row["type"], "imageCount": count
    }  # fmt: skip
