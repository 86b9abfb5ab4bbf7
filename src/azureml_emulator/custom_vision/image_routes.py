"""The images of a project: listing and counting them, their tags and metadata, and removing them."""

from __future__ import annotations

import json

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import TRAINING
from azureml_emulator.custom_vision.image_uploads import ImageUploads
from azureml_emulator.custom_vision.project_images import ProjectImages, TaggedImages
from azureml_emulator.custom_vision.project_routes import ProjectRoutes
from azureml_emulator.custom_vision.sku_limits import IMAGES_A_BATCH, TAGS_A_BATCH
from azureml_emulator.custom_vision.vision_access import VisionAccess, VisionHandler
from azureml_emulator.custom_vision.vision_calls import flag_of, id_of, ids_of, json_of, number_of, word_of
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment
from azureml_emulator.custom_vision.vision_refusals import bad_request
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, reply

_PAGE, _LARGEST_PAGE = 50, 256


class ImageRoutes:
    """The calls about the images of a project.

    Args:
        access: Checks callers.
        database: Keeps the images.
        projects: Finds the project of a call.
        images: Finds images.
        uploads: Accepts new ones.
    """

    def __init__(
        self,
        access: VisionAccess,
        database: VisionDatabase,
        projects: ProjectRoutes,
        images: ProjectImages,
        uploads: ImageUploads,
    ) -> None:
        self._access = access
        self._database = database
        self._projects = projects
        self._images = images
        self._uploads = uploads

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        start, at = "/projects/{project}/images", self._access.route
        found: list[BaseRoute] = [
            at(TRAINING, start, GET=self._list(""), POST=self._uploads.from_data, DELETE=self._delete),
            at(TRAINING, start + "/count", GET=self._count("")),
            at(TRAINING, start + "/id", GET=self._list_by_ids),
            at(TRAINING, start + "/metadata", POST=self._update_metadata),
            at(TRAINING, start + "/tags", POST=self._add_tags, DELETE=self._remove_tags),
        ]
        for status in ("Tagged", "Untagged"):
            found.append(at(TRAINING, f"{start}/{status.lower()}", GET=self._list(status)))
            found.append(at(TRAINING, f"{start}/{status.lower()}/count", GET=self._count(status)))
        return found

    def _list(self, status: str) -> VisionHandler:
        """List images: all that match the query, or those that are tagged or untagged."""

        def handler(account: RestResource, call: RestCall) -> Response:
            project = self._projects.find(account, call)["id"]
            found = list(self._selected(project, call, status).items())
            if word_of(call.query.get("orderBy", "Newest"), "orderBy", ("Newest", "Oldest")) == "Newest":
                found.reverse()
            skip, take = number_of(call, "skip", 0), number_of(call, "take", _PAGE, _LARGEST_PAGE)
            return reply(self._images.shown(account, project, dict(found[skip : skip + take])))

        return handler

    def _count(self, status: str) -> VisionHandler:
        def handler(account: RestResource, call: RestCall) -> Response:
            return reply(len(self._selected(self._projects.find(account, call)["id"], call, status)))

        return handler

    def _selected(self, project: str, call: RestCall, status: str) -> TaggedImages:
        """Return the images that a call selects. Raises ServiceRefusalError."""
        if call.query.get("$filter"):
            raise bad_request("NotSupported", "$filter, for metadata, is not emulated.")
        words = ("All", "Tagged", "Untagged")
        status = status or word_of(call.query.get("taggingStatus", "All"), "taggingStatus", words)
        wanted = set(ids_of(call.query.get("tagIds"), "tagIds", TAGS_A_BATCH))
        return {
            image: tags
            for image, tags in self._at(project, call).items()
            if (status == "All" or bool(tags) == (status == "Tagged")) and (not wanted or wanted.intersection(tags))
        }

    def _at(self, project: str, call: RestCall) -> TaggedImages:
        if not call.query.get("iterationId"):
            return self._images.tagged(project)
        return self._images.tagged_at(project, id_of(call.query["iterationId"], "iterationId"))

    def _list_by_ids(self, account: RestResource, call: RestCall) -> Response:
        project = self._projects.find(account, call)["id"]
        wanted, there = ids_of(call.query.get("imageIds"), "imageIds", _LARGEST_PAGE), self._at(project, call)
        return reply(self._images.shown(account, project, {id: there[id] for id in wanted if id in there}))

    def _delete(self, account: RestResource, call: RestCall) -> Response:
        project, everything = self._projects.find(account, call)["id"], flag_of(call, "allImages")
        wanted = ids_of(call.query.get("imageIds"), "imageIds", _LARGEST_PAGE)
        if bool(wanted) == everything:
            raise bad_request("RequiredParamIsNull", "Either imageIds or allImages=true is needed.")
        iterations = self._database.number("select count(*) from iterations where project = ?", (project,))
        # Iterations show the images that they were trained with, which are kept for them unless the caller asks otherwise.
        what = (
            "update images set gone = 1" if iterations and not flag_of(call, "allIterations") else "delete from images"
        )
        values: list[object] = [project]
        which = "project = ?"
        if not everything:
            which += " and id in (select value from json_each(?))"
            values.append(json.dumps(wanted))
        with self._database.change() as connection:
            connection.execute(f"{what} where {which}", values)
        return reply(None, 204)

    def _update_metadata(self, account: RestResource, call: RestCall) -> Response:
        project, metadata = self._projects.find(account, call)["id"], json_of(call)
        if not all(isinstance(value, str) for value in metadata.values()):
            raise bad_request("ImageMetadataValue", "The metadata is not an object of texts.")
        wanted, there = ids_of(call.query.get("imageIds"), "imageIds", _LARGEST_PAGE), self._images.tagged(project)
        answers: list[Json] = []
        with self._database.change() as connection:
            for image in wanted:
                if image in there:
                    connection.execute("update images set metadata = ? where id = ?", (json.dumps(metadata), image))
                    answers.append({"imageId": image, "status": "OK", "metadata": metadata})
                else:
                    answers.append({"imageId": image, "status": "ErrorImageNotFound", "metadata": None})
        good = all(answer["status"] == "OK" for answer in answers)
        return reply({"isBatchSuccessful": good, "images": answers}, 200 if good else 207)

    def _add_tags(self, account: RestResource, call: RestCall) -> Response:
        project = self._projects.find(account, call)
        given = json_of(call).get("tags") or []
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise bad_request("ImageTags", "tags is not a list of objects.")
        pairs = [(id_of(item.get("imageId"), "imageId"), id_of(item.get("tagId"), "tagId")) for item in given]
        ids_of([image for image, _ in pairs], "imageId", IMAGES_A_BATCH)
        self._images.require_tags(project["id"], ids_of([tag for _, tag in pairs], "tagId", TAGS_A_BATCH))
        multiclass = json.loads(project["settings"])["classificationType"] == "Multiclass"
        with self._database.change() as connection:
            there = self._images.tagged(project["id"])
            if unknown := {image for image, _ in pairs} - there.keys():
                raise bad_request("InvalidIds", f"The project has no image {', '.join(sorted(unknown))}.")
            answer: dict[str, list[Json]] = {"created": [], "duplicated": [], "exceeded": []}
            for image, tag in pairs:
                tags = there[image]
                word = "duplicated" if tag in tags else "exceeded" if multiclass and tags else "created"
                answer[word].append({"imageId": image, "tagId": tag})
                if word == "created":
                    tags.append(tag)
                    connection.execute("insert into image_tags values (?, ?, ?)", (image, tag, moment()))
        return reply(answer)

    def _remove_tags(self, account: RestResource, call: RestCall) -> Response:
        self._projects.find(account, call)
        images = ids_of(call.query.get("imageIds"), "imageIds", IMAGES_A_BATCH)
        tags = ids_of(call.query.get("tagIds"), "tagIds", TAGS_A_BATCH)
        there = self._images.tagged(id_of(call.names["project"], "projectId"))
        pairs = [(image, tag) for image in images if image in there for tag in tags]
        with self._database.change() as connection:
            connection.executemany("delete from image_tags where image = ? and tag = ?", pairs)
        return reply(None, 204)
