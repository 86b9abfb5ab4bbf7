"""Images that are added to a project: from the body of a call, from JSON, from addresses and from predictions.

A batch succeeds or fails image by image; the response contains the outcome of each.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import TRAINING
from azureml_emulator.custom_vision.image_checks import ImageProblemError, image_size
from azureml_emulator.custom_vision.image_sources import ImageSources
from azureml_emulator.custom_vision.project_images import ProjectImages
from azureml_emulator.custom_vision.project_routes import ProjectRoutes
from azureml_emulator.custom_vision.sku_limits import IMAGES_A_BATCH, TAGS_A_BATCH, TRAINING_BYTES
from azureml_emulator.custom_vision.vision_access import VisionAccess
from azureml_emulator.custom_vision.vision_calls import files_of, id_of, ids_of, json_of
from azureml_emulator.custom_vision.vision_database import VisionDatabase, moment, new_id
from azureml_emulator.custom_vision.vision_refusals import bad_request
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, reply


@dataclass(frozen=True)
class _Entry:
    """One image of a batch: where it comes from, how to get its bytes, and its own tags."""

    source: str
    read: Callable[[], bytes]
    tags: list[str]


class ImageUploads:
    """The calls that add images.

    Args:
        access: Checks callers.
        database: Keeps the images.
        projects: Finds the project of a call.
        images: Shows what was kept.
        sources: Downloads images by their addresses.
    """

    def __init__(
        self,
        access: VisionAccess,
        database: VisionDatabase,
        projects: ProjectRoutes,
        images: ProjectImages,
        sources: ImageSources,
    ) -> None:
        self._access = access
        self._database = database
        self._projects = projects
        self._images = images
        self._sources = sources

    def routes(self) -> list[BaseRoute]:
        """Return the paths; the one for data is that of the images themselves."""
        start, at = "/projects/{project}/images", self._access.route
        return [
            at(TRAINING, start + "/files", POST=self._from_files),
            at(TRAINING, start + "/urls", POST=self._from_urls),
            at(TRAINING, start + "/predictions", POST=self._from_predictions),
        ]

    def from_data(self, account: RestResource, call: RestCall) -> Response:
        """Keep the images in the body of a call."""
        entries = [_Entry(file.name, lambda content=file.content: content, []) for file in files_of(call)]  # type: ignore[misc]
        return self._keep(account, call, entries, call.query.get("tagIds"), {})

    def _from_files(self, account: RestResource, call: RestCall) -> Response:
        return self._from_json(account, call, lambda item: (str(item.get("name") or ""), lambda: _decoded(item)))

    def _from_urls(self, account: RestResource, call: RestCall) -> Response:
        def source(item: Json) -> tuple[str, Callable[[], bytes]]:
            url = str(item.get("url") or "")
            return url, lambda: self._sources.fetch(url, TRAINING_BYTES)

        return self._from_json(account, call, source)

    def _from_predictions(self, account: RestResource, call: RestCall) -> Response:
        project = self._projects.find(account, call)["id"]

        def read(prediction: str) -> bytes:
            query = "select content from predictions where id = ? and project = ?"
            found = self._database.row(query, (prediction, project))
            if found is None:
                raise ImageProblemError("ErrorSource", f"The prediction {prediction!r} was not found.")
            return bytes(found["content"])

        def source(item: Json) -> tuple[str, Callable[[], bytes]]:
            prediction = id_of(item.get("id"), "images")
            return prediction, lambda: read(prediction)

        return self._from_json(account, call, source)

    def _from_json(
        self, account: RestResource, call: RestCall, source: Callable[[Json], tuple[str, Callable[[], bytes]]]
    ) -> Response:
        body = json_of(call)
        given, metadata = body.get("images") or [], body.get("metadata") or {}
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise bad_request("ImageBatch", "images is not a list of objects.")
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise bad_request("ImageMetadataValue", "metadata is not an object of texts.")
        if any(item.get("regions") for item in given):
            raise bad_request("ImageRegions", "Regions belong to projects that detect objects, which are not emulated.")
        entries = [_Entry(*source(item), ids_of(item.get("tagIds"), "tagIds")) for item in given]
        return self._keep(account, call, entries, body.get("tagIds"), metadata)

    def _keep(
        self, account: RestResource, call: RestCall, entries: list[_Entry], tags: object, metadata: Json
    ) -> Response:
        """Keep a batch, and return the outcome of each image. Raises ServiceRefusalError."""
        project = self._projects.find(account, call)
        if not entries:
            raise bad_request("ImageBatch", "The batch has no images.")
        if len(entries) > IMAGES_A_BATCH:
            message = f"The batch has {len(entries)} images, but at most {IMAGES_A_BATCH} are accepted."
            raise bad_request("ExceededBatchSize", message)
        common = ids_of(tags, "tagIds", TAGS_A_BATCH)
        self._images.require_tags(project["id"], [*common, *(tag for entry in entries for tag in entry.tags)])
        multiclass = json.loads(project["settings"])["classificationType"] == "Multiclass"
        upload = _Upload(
            self._database, project["id"], self._images.tag_types(project["id"]), multiclass,
            self._access.limits_of(account).images, json.dumps(metadata),
        )  # fmt: skip
        results = [(entry, *upload.keep(entry, [*common, *entry.tags])) for entry in entries]
        kept = {image: upload.tags_of(image) for _, _, image in results if image}
        shown = {item["id"]: item for item in self._images.shown(account, project["id"], kept)}
        answers = [
            {"sourceUrl": entry.source, "status": status, "image": shown.get(image)} for entry, status, image in results
        ]
        good = all(status == "OK" for _, status, _ in results)
        return reply({"isBatchSuccessful": good, "images": answers}, 200 if good else 207)


@dataclass(frozen=True)
class _Upload:
    """Keeps the images of one batch, one by one."""

    database: VisionDatabase
    project: str
    tag_types: dict[str, str]
    multiclass: bool
    most: int
    metadata: str

    def keep(self, entry: _Entry, tags: Iterable[str]) -> tuple[str, str]:
        """Keep one image; return its status, and its id if it is in the project now."""
        wanted = list(dict.fromkeys(tags))
        try:
            self._check_tags(wanted)
            content = entry.read()
            width, height = image_size(content, TRAINING_BYTES)
        except ImageProblemError as problem:
            return problem.status, ""
        digest, created = hashlib.sha256(content).hexdigest(), moment()
        with self.database.change() as connection:
            query = "select id from images where project = ? and digest = ? and not gone"
            known = self.database.row(query, (self.project, digest))
            if known is not None:
                return "OKDuplicate", str(known["id"])
            count = "select count(*) from images where project = ? and not gone"
            if self.database.number(count, (self.project,)) >= self.most:
                return "ErrorLimitExceed", ""
            self.database.insert("images", {
                "id": (image := new_id()), "project": self.project, "digest": digest, "created": created, "width": width,
                "height": height, "metadata": self.metadata, "content": content,
            })  # fmt: skip
            connection.executemany("insert into image_tags values (?, ?, ?)", [(image, tag, created) for tag in wanted])
        return "OK", image

    def _check_tags(self, tags: list[str]) -> None:
        if len(tags) > TAGS_A_BATCH or (self.multiclass and len(tags) > 1):
            raise ImageProblemError("ErrorTagLimitExceed", "The image has too many tags.")
        if len(tags) > 1 and any(self.tag_types[tag] == "Negative" for tag in tags):
            raise ImageProblemError("ErrorNegativeAndRegularTagOnSameImage", "An image is negative, or has other tags.")

    def tags_of(self, image: str) -> list[str]:
        """Return the tags of an image."""
        return [row["tag"] for row in self.database.rows("select tag from image_tags where image = ?", (image,))]


def _decoded(item: Json) -> bytes:
    try:
        return base64.b64decode(str(item.get("contents") or ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageProblemError("ErrorImageFormat", "contents is not base64.") from error
