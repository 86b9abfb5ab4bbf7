"""A container registry on loopback: what a push asks of one, after the OCI distribution specification.

It keeps everything in memory, wants a password, and holds a client to what it sends: a blob whose digest is another one is
refused, and so is a manifest that names a blob which is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "00000000-0000-0000-0000-000000000000", "placeholder"
_PLACE = re.compile(r"/v2/(?P<name>[a-z0-9/._-]+)/(?P<kind>blobs/uploads|blobs|manifests)/(?P<reference>[^/]*)")


class LoopbackRegistry:
    """Answers on a free port of 127.0.0.1 while it is used as a context.

    Attributes:
        address: Host and port: what comes before the name of an image.
        blobs: Content by digest.
        manifests: Content and media type by name and tag or digest.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.uploads: dict[str, bytes] = {}
        handler = type("_Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackRegistry:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head
    registry: ClassVar[LoopbackRegistry]

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at what the registry holds."""

    def handle_one_request(self) -> None:
        self.do_HEAD = self.do_GET = self.do_POST = self.do_PATCH = self.do_PUT = self._answer
        super().handle_one_request()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        path = urlsplit(self.path)
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self._send(401, {"WWW-Authenticate": 'Basic realm="loopback"'})
        elif path.path in ("/v2/", "/v2"):
            self._send(200, {})
        elif not (place := _PLACE.fullmatch(path.path)):
            self._send(404, {})
        elif place["kind"] == "blobs/uploads":
            self._upload(place["name"], place["reference"], parse_qs(path.query).get("digest", [""])[0], body)
        elif place["kind"] == "blobs":
            self._content(self.registry.blobs.get(place["reference"]), "application/octet-stream")
        elif self.command == "PUT":
            self._keep_manifest(place["name"], place["reference"], body)
        else:
            content, media_type = self.registry.manifests.get((place["name"], place["reference"]), (None, ""))
            self._content(content, media_type)

    def _upload(self, name: str, session: str, digest: str, body: bytes) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            session = uuid.uuid4().hex
            uploads[session] = b""
        if session not in uploads:
            self._send(404, {})
            return
        uploads[session] += body
        if self.command != "PUT":
            headers = {
                "Location": f"/v2/{name}/blobs/uploads/{session}",
                "Range": f"0-{max(len(uploads[session]) - 1, 0)}",
            }
            self._send(202, headers)
            return
        content = uploads.pop(session)
        if digest != _digest(content):
            self._send(400, {})
            return
        self.registry.blobs[digest] = content
        self._send(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _keep_manifest(self, name: str, reference: str, body: bytes) -> None:
        manifest = json.loads(body)
        if any(part["digest"] not in self.registry.blobs for part in (manifest["config"], *manifest["layers"])):
            self._send(404, {})
            return
        digest, kept = _digest(body), (body, self.headers["Content-Type"])
        self.registry.manifests[name, reference] = self.registry.manifests[name, digest] = kept
        self._send(201, {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest})

    def _content(self, content: bytes | None, media_type: str) -> None:
        if content is None:
            self._send(404, {})
        else:
            self._send(200, {"Content-Type": media_type, "Docker-Content-Digest": _digest(content)}, content)

    def _chunks(self) -> bytes:
        found = bytearray()
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(found)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
