"""The style sheet, scripts and icon: compressed once, and kept by browsers until one of them changes.

Their addresses hold a hash of all of them, so that modules that import each other come from one version.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, abort, request, url_for
from werkzeug.wrappers import Response

_FOLDER = Path(__file__).with_name("static")
_YEAR_S = 31_536_000


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    media_type: str


def serve_static_files(app: Flask, folder: Path = _FOLDER, more: Mapping[str, bytes] | None = None) -> None:
    """Serve files at ``/static/VERSION/NAME``; templates call ``static(name)`` for the address.

    Args:
        app: The application.
        folder: Folder with the files.
        more: Contents of others, by name.
    """
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    files = {name: _file(name, content) for name, content in {**contents, **(more or {})}.items()}
    version = hashlib.sha256(b"".join(file.compressed for file in files.values())).hexdigest()[:12]

    def send(version_asked: str, name: str) -> Response:
        file = files.get(name) or abort(404)
        compressed = request.accept_encodings["gzip"] > 0
        response = Response(file.compressed if compressed else file.content, mimetype=file.media_type)
        response.vary.add("Accept-Encoding")
        if compressed:
            response.content_encoding = "gzip"
        if version_asked == version:
            response.cache_control.public = response.cache_control.immutable = True
            response.cache_control.max_age = _YEAR_S
        else:  # another instance, which is being replaced, wrote the page
            response.cache_control.no_store = True
        return response

    app.add_url_rule("/static/<version_asked>/<name>", "static_file", send)
    app.add_template_global(lambda name: url_for("static_file", version_asked=version, name=name), "static")


def _file(name: str, content: bytes) -> _File:
    media_type = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
    return _File(content, gzip.compress(content, mtime=0), media_type or "application/octet-stream")
