"""Undoes the Content-Encoding of a body, within limits: a few bytes may unpack to gigabytes."""

from __future__ import annotations

import zlib

from vision_mlops.serving.http.http_messages import RequestError

SUPPORTED = ("gzip", "deflate")
_MOST_CODINGS = 4
_MOST_MEMBERS = 10_000
_PIECE = 64 * 1024
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def decode_body(body: bytes, codings: str, limit: int) -> bytes:
    """Return the body as it was before its codings were applied.

    Args:
        body: The body as it came.
        codings: Value of Content-Encoding, in the order in which they were applied; may be empty.
        limit: Maximum size that it may unpack to, also between two codings.

    Raises:
        RequestError: 400 damaged, 413 larger than the limit, 415 another coding.
    """
    names = [name.strip().lower().removeprefix("x-") for name in codings.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    unknown = next((name for name in names if name not in SUPPORTED), "")
    if unknown or len(names) > _MOST_CODINGS:
        what = f"content encoding {unknown[:40]!r}" if unknown else f"a stack of {len(names)} content encodings"
        message = f"{what} is not supported: send the body as it is, or with {' or '.join(SUPPORTED)}"
        accepted = ((b"accept-encoding", ", ".join(SUPPORTED).encode()),)
        raise RequestError(415, "unsupported_encoding", message, accepted)
    for name in reversed(names):
        body = _unpack(body, name, limit)
    return body


def _unpack(body: bytes, name: str, limit: int) -> bytes:
    if not body:
        return body  # some clients announce the coding of a body that they do not send
    # RFC 9110 wants the header of zlib around deflate, which some clients leave out.
    has_header = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    bits = _GZIP if name == "gzip" else _ZLIB if has_header else _RAW
    pieces: list[bytes] = []
    size = members = 0
    unpacker = None
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        piece = bytes(view[start : start + _PIECE])
        while piece:
            if unpacker is None:
                members += 1
                if members > _MOST_MEMBERS or (members > 1 and bits != _GZIP):
                    raise _damaged(name, "data follows its end")
                unpacker = zlib.decompressobj(bits)
            try:
                unpacked = unpacker.decompress(piece, limit + 1 - size)
            except zlib.error as error:
                raise _damaged(name, str(error)) from error
            size += len(unpacked)
            if size > limit:
                message = f"the body is larger than {limit // 2**20} MB once it is unpacked"
                raise RequestError(413, "body_too_large", message)
            pieces.append(unpacked)
            piece = unpacker.unconsumed_tail
            if unpacker.eof:
                piece, unpacker = unpacker.unused_data, None
    if unpacker is not None:
        raise _damaged(name, "its end is missing")
    return b"".join(pieces)


def _damaged(name: str, reason: str) -> RequestError:
    return RequestError(
        400, "bad_encoding", f"the body is not valid {name}, as its Content-Encoding requires: {reason}"
    )
