"""One correction: the image, the class that the model predicted, the right class, who gave it and when."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from vision_mlops.core.errors import CorrectionsFullError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction of one image by a person. :func:`make_correction` makes one.

    Attributes:
        id: The same for the same statement about the same answer by the same person: sent twice, it is one correction.
        sha256: Hash of the image's bytes, as they were received.
        suffix: Suffix of the image's type, with its dot.
        label: The right class; None for "none of these".
        predicted: Class that the model gave.
        model_name: Name of the model that gave it.
        model_version: Its version.
        model_id: Identifies its bundle.
        request_id: Id of the request, as in the log of the endpoint.
        who: Name of the person who has signed in, or the id of the browser's session.
        at: Time of the correction, in ISO 8601 and UTC.
    """

    id: str
    sha256: str
    suffix: str
    label: str | None
    predicted: str
    model_name: str
    model_version: str
    model_id: str
    request_id: str
    who: str
    at: str

    def __post_init__(self) -> None:
        # They become names of files and blobs.
        for pattern, text in ((_ID, self.id), (_SHA256, self.sha256), (_SUFFIX, self.suffix)):
            if not pattern.fullmatch(text):
                raise ValueError(f"{text!r} cannot be part of a correction's file name")
        if self.moment.utcoffset() is None:
            raise ValueError(f"{self.at!r} has no time zone")

    @property
    def moment(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.at)

    @property
    def image_name(self) -> str:
        """Name of the file or blob that holds the image."""
        return f"{self.sha256}{self.suffix}"


FIELDS = tuple(field.name for field in fields(Correction))
"""Names of what is kept of a correction."""


def make_correction(image: bytes, *, at: datetime | None = None, **said: Any) -> Correction:
    """Make the correction of an image.

    Args:
        image: Encoded bytes, as they were received.
        at: Time, with a time zone; now if not given.
        said: All other fields of :class:`Correction` but ``id`` and ``sha256``.

    Raises:
        ValueError: ``suffix`` is not a suffix, or ``at`` has no time zone.
    """
    sha256 = hashlib.sha256(image).hexdigest()
    statement = json.dumps([sha256, *(said[name] for name in FIELDS if name in said and name != "suffix")])
    moment = at or datetime.now(UTC)
    return Correction(
        id=hashlib.sha256(statement.encode("utf-8", "surrogatepass")).hexdigest()[:32],
        sha256=sha256,
        at=(moment.astimezone(UTC) if moment.tzinfo else moment).isoformat(timespec="microseconds"),
        **said,
    )


def check_image(correction: Correction, image: bytes) -> None:
    """Refuse an image that is not the one of a correction. Raises ValueError."""
    if hashlib.sha256(image).hexdigest() != correction.sha256:
        raise ValueError(f"the image is not that of correction {correction.id}")


def check_room(location: str, size: int, more: int, limit: int) -> None:
    """Refuse what does not fit. Raises CorrectionsFullError."""
    if size + more > limit:
        raise CorrectionsFullError(
            f"{location} has {size:,} bytes of corrections, and {more:,} more would exceed its limit of {limit:,}",
            "add them to the data with `mlops data add-labels` and move them away, or raise MLOPS_APP_CORRECTIONS_LIMIT_MB",
        )
