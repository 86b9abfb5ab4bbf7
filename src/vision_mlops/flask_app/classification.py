"""From the form of a request to the response of the endpoint: the same for the page without JavaScript and for /api."""

from __future__ import annotations

import time
import uuid
from typing import Any

from flask import request

from vision_mlops.flask_app.app_errors import AppError
from vision_mlops.flask_app.frontend import frontend
from vision_mlops.flask_app.uploads import Upload, read_upload, scaled_to


def uploaded() -> Upload:
    """Return the image of the form, its field ``image``. Raises AppError."""
    files = request.files.getlist("image")
    if len(files) != 1 or not files[0].filename:
        problem = "No image was sent: choose a file." if len(files) < 2 else "Send one image at a time."
        raise AppError(400, "no_image" if len(files) < 2 else "too_many_images", problem)
    return read_upload(files[0].read(), frontend().settings.max_pixels)


def classify_upload(upload: Upload, *, explain: bool) -> dict[str, Any]:
    """Return the endpoint's answer for an image, with ``roundtrip_ms`` and whether the image was ``scaled`` down for it.

    Raises:
        AppError: the image cannot be scaled, or the endpoint does not score it.
    """
    parts = frontend()
    began = time.monotonic()  # asking for the limits is a part of the time that an image may take
    limits = parts.deployed.get().limits
    sent = scaled_to(upload, parts.settings.image_bytes(limits.body_bytes if limits else None))
    started = time.perf_counter()
    answer = parts.endpoint.classify(
        sent.data, sent.media_type, explain=explain, request_id=uuid.uuid4().hex, since=began
    )
    answer["roundtrip_ms"] = round((time.perf_counter() - started) * 1000, 1)
    answer["scaled"] = sent is not upload
    parts.deployed.saw(answer["model"]["id"])
    return answer
