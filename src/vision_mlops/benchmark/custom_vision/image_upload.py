"""Uploads training images to a project in batches, so that an interrupted upload continues without duplicates."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vision_mlops.benchmark.custom_vision.image_payloads import ImagePayloads
from vision_mlops.benchmark.custom_vision.json_line_log import JsonLineLog, LogRow
from vision_mlops.benchmark.custom_vision.service_errors import TOO_LARGE_BATCH, GaveUpError, VisionError
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.config.custom_vision_settings import PREFIX
from vision_mlops.core.errors import DataError
from vision_mlops.core.text import counted, few

BATCH_IMAGES, BATCH_TAGS = 64, 20
"""Largest numbers of images and tags in a request."""
_BATCH_BYTES = 24_000_000
"""Largest size of the files of a request: a larger one takes longer than gateways wait."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_SAY_SECONDS = 10.0
_DONE = frozenset({"OK", "OKDuplicate"})
_PASSING = frozenset({"ErrorStorage", "ErrorUnknown", "ErrorSource"})
"""Errors that may pass."""
_UNREADABLE = frozenset({"ErrorImageFormat", "ErrorImageSize"})
"""Errors that may disappear if the image is encoded again."""
_FULL = "ErrorLimitExceed"
_TOO_LARGE = 413


class UploadRow(LogRow):
    """An image in a project.

    Attributes:
        project: Id of the project.
        sha256: SHA-256 of the file.
        image: Id of the image in the project. Files with the same uploaded content share it.
        tag: Id of its tag in the project.
    """

    project: str
    sha256: str
    image: str
    tag: str


@dataclass(slots=True)
class TrainingImage:
    """One image to be uploaded.

    Attributes:
        anew: Whether it is encoded again for the upload.
        status: Last status from the service.
    """

    file: Path
    sha256: str
    tag: str
    anew: bool = False
    status: str = ""


@dataclass
class ImageUpload:
    """Uploads to one project.

    Args:
        client: Client of the account that trains.
        project: Id of the project.
        log: Log of uploaded images, by project.
        payloads: Reads the files.
        say: Gets progress messages.
    """

    client: VisionClient
    project: str
    log: JsonLineLog[UploadRow]
    payloads: ImagePayloads
    say: Callable[[str], None]
    _said: float = field(default=0.0, init=False)
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)

    def run(self, images: Sequence[TrainingImage]) -> int:
        """Upload missing images, and return how many were sent.

        Images that fail are sent again in smaller batches, down to single images, so that one image does not block others.

        Args:
            images: Files with different content. If the uploaded content of two is equal, the service keeps one of them.

        Raises:
            DataError: some images are not accepted; all others have been uploaded.
            VisionError: the service refuses, or cannot be reached.
        """
        there = self._there()
        left = [image for image in images if image.sha256 not in there]
        sent = len(left)
        self._done, self._total = len(images) - sent, len(images)
        if self._done and left:
            self.say(f"{counted(self._done, 'image')} of {self._total:,} were uploaded earlier")
        refused: list[TrainingImage] = []
        size, pause = BATCH_IMAGES, _FIRST_PAUSE_S
        while left:
            failed = [image for batch in _batches(left, size) for image in self._send_split(batch)]
            left = [image for image in failed if _may_try_again(image)]
            refused += [image for image in failed if image not in left]
            if size == 1:
                refused, left = refused + left, []
            if left:
                time.sleep(pause)
            size, pause = max(1, size // 2), min(2 * pause, _LONGEST_PAUSE_S)
        if refused:
            raise _refusal(refused)
        return sent

    def counts(self, images: Sequence[TrainingImage]) -> dict[str, int]:
        """Return expected number of images in the project by tag; images that it considers equal count once."""
        found = Counter(self._kept_tags(images).values())
        return {tag: found[tag] for tag in {image.tag for image in images}}

    def under_other_tags(self, images: Sequence[TrainingImage]) -> list[TrainingImage]:
        """Return images with another tag in the project, because their uploaded content equals that of an earlier image."""
        tags, there = self._kept_tags(images), self._there()
        return [image for image in images if (row := there.get(image.sha256)) and tags[row.image] != image.tag]

    def _kept_tags(self, images: Sequence[TrainingImage]) -> dict[str, str]:
        """Return the expected tag of each image in the project, by its id there, or by its hash if it is missing."""
        there = self._there()
        tags: dict[str, str] = {}
        for image in images:
            row = there.get(image.sha256)
            # A tag that none of these files has was set by someone else.
            if row is None or row.image not in tags or row.tag == image.tag:
                tags[row.image if row else image.sha256] = image.tag
        return tags

    def _there(self) -> dict[str, UploadRow]:
        """Return uploaded images, by the hash of the file."""
        return {row.sha256: row for row in self.log.rows if row.project == self.project}

    def _send_split(self, batch: list[TrainingImage]) -> list[TrainingImage]:
        """Send a batch, in parts if it is refused as a whole; returns the images that were not accepted."""
        try:
            return self._send(batch)
        except VisionError as error:
            if len(batch) == 1 or not _is_shrinkable(error):
                raise
            # One image first: if the service is down, there is no point in trying every half.
            middle = (len(batch) + 1) // 2
            parts = [part for part in (batch[:1], batch[1:middle], batch[middle:]) if part]
        return [image for part in parts for image in self._send_split(part)]

    def _send(self, batch: Sequence[TrainingImage]) -> list[TrainingImage]:
        """Send a batch in one request; returns the images that were not accepted."""
        entries = [
            {
                "name": image.sha256,
                "contents": base64.b64encode(self.payloads.read(image.file, anew=image.anew)).decode(),
                "tagIds": [image.tag],
            }
            for image in batch
        ]
        answer = self.client.call("POST", f"projects/{self.project}/images/files", body={"images": entries})
        rows = {str(row.get("sourceUrl") or "").strip('"'): row for row in answer["images"]}
        for image in batch:
            row = rows.get(image.sha256, {"status": "no status"})
            image.status = str(row["status"])
            if image.status in _DONE:
                kept = row.get("image") or {}
                tags = [str(tag["tagId"]) for tag in kept.get("tags") or []]
                self.log.add(
                    UploadRow(
                        project=self.project,
                        sha256=image.sha256,
                        image=str(kept.get("id") or image.sha256),
                        tag=image.tag if image.tag in tags or not tags else tags[0],
                    )
                )
                self._done += 1
        if any(image.status == _FULL for image in batch):
            raise VisionError(
                f"Custom Vision accepts no more images ({_FULL})",
                f"the project has as many as its SKU allows: remove images, or use the SKU S0 with {PREFIX}SKU=S0",
                207,
                _FULL,
            )
        now = time.monotonic()
        if self._done == self._total or now - self._said > _SAY_SECONDS:
            self._said = now
            self.say(f"uploaded {self._done:,} of {counted(self._total, 'image')}")
        return [image for image in batch if image.status not in _DONE]


def _batches(images: Sequence[TrainingImage], most: int) -> Iterator[list[TrainingImage]]:
    """Yield batches of images by tag, within the limits of a request, of at most ``most`` images."""
    batch: list[TrainingImage] = []
    tags: set[str] = set()
    size = 0
    # In the order of the classes, so that the first class always gets an image that the service considers a duplicate.
    position = {tag: number for number, tag in enumerate(dict.fromkeys(image.tag for image in images))}
    for image in sorted(images, key=lambda image: position[image.tag]):
        length = image.file.stat().st_size
        full = len(batch) == most or len(tags | {image.tag}) > BATCH_TAGS or size + length > _BATCH_BYTES
        if batch and full:
            yield batch
            batch, tags, size = [], set(), 0
        batch.append(image)
        tags.add(image.tag)
        size += length
    if batch:
        yield batch


def _is_shrinkable(error: VisionError) -> bool:
    """Return whether fewer images at once may be accepted."""
    return error.code in TOO_LARGE_BATCH or error.status == _TOO_LARGE or isinstance(error, GaveUpError)


def _may_try_again(image: TrainingImage) -> bool:
    if image.status in _UNREADABLE and not image.anew:
        image.anew = True
        return True
    return image.status in _PASSING


def _refusal(images: Sequence[TrainingImage]) -> DataError:
    shown = few([f"{image.file} ({image.status})" for image in images])
    return DataError(
        f"Custom Vision does not accept {counted(len(images), 'image')}: {shown}",
        "replace or remove them and prepare the data again; uploaded images stay, and are not sent again",
    )
