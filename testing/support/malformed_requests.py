"""Malformed requests without end, and the same ones for the same seed: valid requests of every form with a few changes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import re
import socket
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from PIL import Image

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Z]")
_PIECES = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\xff\xff\xff\xff", b"\0\0\0\0", b"9999", b"-1", b"%00", b"%",
    b"\xc3", b":", b";", b",", b"=", b'"', b"\\", b"--B", b"--B--", b"{", b"[[[[[[", b"null", b"1e999", b"\\ud800", b"../..",
    b"Content-Length: 5\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close, keep-alive\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate, br\r\n",
    b"Content-Type: multipart/form-data; boundary=\r\n", b"Content-Type: application/json; charset=utf-7\r\n",
    b"traceparent: 00-0-0-0\r\n", b"X-Request-Id: \xe4\xb8\xad\r\n", b"azureml-model-deployment: none\r\n",
    b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"CONNECT", b"OPTIONS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"0\r\n\r\n",
    b"FFFFFFFF\r\n",
)  # fmt: skip
_LENGTH = re.compile(rb"(?i)(content-length: )\d+")


def valid_requests() -> list[bytes]:
    """One of each form that the server takes."""
    jpeg, png = _image("JPEG"), _image("PNG")
    text = base64.b64encode(jpeg)
    part = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    field = b'--B\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n2\r\n'
    form = field + part + jpeg + b"\r\n" + part + png + b"\r\n--B--\r\n"
    chunks = b"".join(b"%x;name=value\r\n%b\r\n" % (len(piece), piece) for piece in (jpeg[:90], jpeg[90:]))
    images = json.dumps({"images": [text.decode()] * 3, "explain": True, "top_k": 1}).encode()
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    parent = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n"
    get = b" HTTP/1.1\r\nHost: a\r\n\r\n"
    return [
        _request(jpeg, b"image/jpeg"), _request(jpeg, b"image/jpeg", h2c), _request(jpeg, b"image/jpeg", parent),
        _request(png, b"image/png", path=b"/score?top_k=2&explain=true"),
        _request(images, b"application/json"), _request(b'{"image": "%b"}' % text, b"application/json; charset=utf-8"),
        _request(form, b"multipart/form-data; boundary=B"),
        _request(gzip.compress(jpeg, mtime=0), b"image/jpeg", b"Content-Encoding: gzip\r\n"),
        _request(zlib.compress(images), b"application/json", b"Content-Encoding: deflate\r\n"),
        _request(png, b"image/png", b"Connection: keep-alive\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
        _request(jpeg, b"image/jpeg", b"Expect: 100-continue\r\n"),
        b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks + b"0\r\nX-Trailer: a\r\n\r\n",
        _request(b'{"version": "2"}', b"application/json", path=b"/admin/reload"),
        *(b"GET %b%b" % (path, get) for path in (b"/metrics", b"/openapi.json", b"/health/live", b"http://a/", b"/a%2f")),
        b"OPTIONS *" + get, b"HEAD /health/live" + get,
    ]  # fmt: skip


def malformed_requests(seed: int) -> Iterator[bytes]:
    """Changed requests, endlessly. Of most of those with a longer or shorter body, the length is put right again."""
    draw, valid = random.Random(seed), valid_requests()
    while True:
        data = bytearray(draw.choice(valid))
        in_head = draw.random() < 0.4  # else anywhere, which is in the body most of the time
        for _ in range(draw.choice((1, 1, 2, 3, 8))):
            end = data.find(b"\r\n\r\n")
            start = draw.randrange(end if in_head and end > 0 else len(data))
            kind = draw.randrange(6)
            if kind == 0:
                data[start] ^= 1 << draw.randrange(8)
            elif kind == 1:
                data[start:start] = draw.randbytes(draw.randrange(1, 9))
            elif kind == 2 and len(data) > 40:
                del data[start : start + draw.choice((1, 2, 8, 30))]
            elif kind == 3:
                data[start:start] = draw.choice(_PIECES)
            elif kind == 4:
                piece = draw.choice(_PIECES)
                data[start : start + len(piece)] = piece
            else:  # a line or more comes again
                data[start:start] = data[start : start + draw.choice((8, 40, 400))]
        end = data.find(b"\r\n\r\n")
        if end >= 0 and draw.random() < 0.7:
            data[:end] = _LENGTH.sub(b"\\g<1>%d" % (len(data) - end - 4), bytes(data[:end]), count=1)
        yield bytes(data)


def answers_to(port: int, requests: Iterator[bytes], count: int) -> Counter[str]:
    """Send requests, each on a connection of its own.

    Returns:
        How often each status was answered; ``none`` counts connections that were closed without an answer, and ``reset``
        those that broke.

    Raises:
        TimeoutError: a connection was neither answered nor closed.
    """
    seen = Counter[str]()
    for data in islice(requests, count):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            answer = b""
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionError:
                seen["reset"] += 1
        seen.update(code.decode() for code in _STATUS.findall(answer))
        seen["none"] += not answer
    return seen


def _image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("RGB", (24, 24), random.Random(0).randbytes(24 * 24 * 3)).save(stream, kind)
    return stream.getvalue()


def _request(body: bytes, kind: bytes, more: bytes = b"", *, path: bytes = b"/score") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path, kind, more, len(body)) + body
