"""The images of a project as they are kept: their tags, their description, and the addresses of their bytes."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import sqlite3
from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.custom_vision.account_routes import VisionAccounts
from azureml_emulator.custom_vision.image_checks import opened
from azureml_emulator.custom_vision.vision_access import HOST
from azureml_emulator.custom_vision.vision_database import VisionDatabase
from azureml_emulator.custom_vision.vision_refusals import bad_request, not_found
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.rest.rest_calls import Json, RestCall, route

TaggedImages = dict[str, list[str]]
"""Return ids of tags by the id of their image, oldest first."""
_SIZES = {"resized": 1024, "thumbnail": 256}
_WORDS = {"originalImageUri": "original", "resizedImageUri": "resized", "thumbnailUri": "thumbnail"}


class ProjectImages:
    """Finds images.

    Args:
        accounts: Knows the addresses of the accounts.
        database: Keeps the images.
    """

    def __init__(self, accounts: VisionAccounts, database: VisionDatabase) -> None:
        self._accounts = accounts
        self._database = database

    def routes(self) -> list[BaseRoute]:
        """Return the paths of the bytes of images, for anyone who knows the signed address."""
        return [route(HOST + "/customvision/images/{image}/{size}", GET=self._content)]

    def tagged(self, project: str) -> TaggedImages:
        """Return the images that a project has now."""
        rows = self._database.rows(
            "select i.id, group_concat(t.tag) as tags from images i left join image_tags t on t.image = i.id"
            " where i.project = ? and not i.gone group by i.id order by i.rowid",
            (project,),
        )
        return {row["id"]: row["tags"].split(",") if row["tags"] else [] for row in rows}

    def tagged_at(self, project: str, iteration: str) -> TaggedImages:
        """Return the images that an iteration of a project was trained with. Raises ServiceRefusalError."""
        query = "select content from iterations where id = ? and project = ?"
        found = self._database.row(query, (iteration, project))
        if found is None:
            raise not_found("Iteration", iteration)
        images: TaggedImages = json.loads(found["content"])["images"]
        return images

    def tag_types(self, project: str) -> dict[str, str]:
        """Return the types of the tags of a project, by their ids."""
        rows = self._database.rows("select id, type from tags where project = ?", (project,))
        return {row["id"]: row["type"] for row in rows}

    def require_tags(self, project: str, tags: Sequence[str]) -> None:
        """Refuse tags that the project does not have. Raises ServiceRefusalError."""
        unknown = set(tags) - self.tag_types(project).keys()
        if unknown:
            raise bad_request("InvalidIds", f"The project has no tag {', '.join(sorted(unknown))}.")

    def shown(self, account: RestResource, project: str, images: TaggedImages) -> list[Json]:
        """Return images with their tags, as the service does, in the given order."""
        names = {
            row["id"]: row["name"]
            for row in self._database.rows("select id, name from tags where project = ?", (project,))
        }
        rows = self._database.rows(
            "select id, created, width, height, metadata from images where id in (select value from json_each(?))",
            (json.dumps(list(images)),),
        )
        found = {row["id"]: row for row in rows}
        return [self._shown(account, found[id], tags, names) for id, tags in images.items() if id in found]

    def _shown(self, account: RestResource, row: sqlite3.Row, tags: list[str], names: dict[str, str]) -> Json:
        shown = [{"tagId": tag, "tagName": names[tag], "created": row["created"]} for tag in tags if tag in names]
        return {
            "id": row["id"], "created": row["created"], "width": row["width"], "height": row["height"],
            **self.addresses(account, row["id"]), "tags": shown, "regions": [], "metadata": json.loads(row["metadata"]),
        }  # fmt: skip

    def addresses(self, account: RestResource, image: str) -> Json:
        """Return the addresses of an image, in three sizes."""
        start = f"{self._accounts.endpoint(account)}customvision/images/{image}"
        return {word: f"{start}/{size}?sig={_signature(account, image)}" for word, size in _WORDS.items()}

    def _content(self, call: RestCall) -> Response:
        image, size = call.names["image"], call.names["size"]
        row = self._database.row("select content from images where id = ?", (image,)) or self._database.row(
            "select content from predictions where id = ?", (image,)
        )
        signatures = [_signature(item, image) for item in self._accounts.named(call.names["host"])]
        given = call.query.get("sig", "")
        if row is None or size not in _WORDS.values() or not any(hmac.compare_digest(given, one) for one in signatures):
            raise not_found("Image", image)
        content = bytes(row["content"])
        if size != "original":
            content = _smaller(content, _SIZES[size])
        return Response(content, media_type="application/octet-stream" if size == "original" else "image/jpeg")


def _signature(account: RestResource, image: str) -> str:
    secret = str(account.properties["internalId"]).encode()
    return hmac.new(secret, image.encode(), hashlib.sha256).hexdigest()


def _smaller(content: bytes, side: int) -> bytes:
    with opened(content, side) as image, image.convert("RGB") as copy:
        copy.thumbnail((side, side))
        stream = io.BytesIO()
        copy.save(stream, "JPEG")
    return stream.getvalue()
