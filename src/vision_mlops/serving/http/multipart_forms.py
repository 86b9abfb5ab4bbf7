"""Files and fields of a multipart form (RFC 7578), out of a body that is in memory already.

The body is cut at its boundary lines, and only the heads of its parts are looked into. python-multipart refuses a
preamble, lines that end with a line feed alone and folded headers, and ignores transfer encodings; the parser of the
standard library's email package takes 35 ms for a megabyte.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

_OTHER_PARTS = 20
_OTHER_BOUNDARIES = 1000
_HEAD_BYTES = 8 * 1024
_BOUNDARY_BYTES = 256
_PARAMETER = re.compile(rb';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)')
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LINE_END = re.compile(rb"[ \t]*(?:\r?\n|$)")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


class FormError(ValueError):
    """The body is not a multipart form, or has too many parts."""


def read_form(content_type: str, body: bytes, limit: int) -> tuple[list[bytes], dict[str, str]]:
    """Read a form.

    Args:
        content_type: Content type, with the boundary.
        body: The whole form.
        limit: Maximum number of files; reading ends one above it.

    Returns:
        Contents of the parts that are files, in their order; and values of the others by name, of a repeated one the last.

    Raises:
        FormError: says what is wrong with it.
    """
    boundary = _parameters(content_type.encode("latin-1", "replace")).get(b"boundary", b"")
    if not boundary:
        raise FormError("the content type names no boundary")
    if len(boundary) > _BOUNDARY_BYTES:
        raise FormError(f"the boundary is longer than {_BOUNDARY_BYTES} characters")
    files: list[bytes] = []
    fields: dict[str, str] = {}
    others = 0
    for part in _parts(body, b"--" + boundary):
        headers, content = _split(part)
        parameters = _parameters(headers.get(b"content-disposition", b""))
        kind = headers.get(b"content-type", b"").lower()
        # A name in another character set stands in filename*, a long one in filename*0, and images need none.
        named = next((value for key, value in parameters.items() if key.partition(b"*")[0] == b"filename"), None)
        if named is None and not kind.startswith((b"image/", b"application/octet-stream")):
            others += 1
            if others > _OTHER_PARTS:
                raise FormError("it has too many parts")
            name = parameters.get(b"name", b"").decode("utf-8", "replace")[:40]
            fields[name or "(no name)"] = content[:100].decode("utf-8", "replace")
        elif named or content:  # a browser sends an input that was left empty as a file without name and content
            files.append(_decoded(content, headers.get(b"content-transfer-encoding", b"")))
            if len(files) > limit:
                break
    return files, fields


def _parts(body: bytes, delimiter: bytes) -> Iterator[bytes]:
    """Yield what is between the boundary lines; what comes before the first and after the last is not part of the form."""
    start, position, others = -1, 0, 0
    before = b"\n"  # what ends the line before: once that is known, a line feed alone is part of a file
    while (found := body.find(delimiter, position)) >= 0:
        position = found + len(delimiter)
        last = body.startswith(b"--", position)
        line_end = _LINE_END.match(body, position + 2 * last)
        if line_end is None or (found and not body.endswith(before, 0, found)):
            others += 1  # a longer boundary, such as that of a form within this one
            if others > _OTHER_BOUNDARIES:
                raise FormError("its boundary is not on a line of its own")
            continue
        if start >= 0:
            yield body[start : max(start, found - len(before))]
        if last:
            return
        if start < 0 and line_end[0].endswith(b"\r\n"):
            before = b"\r\n"
        start = line_end.end()
        position = max(position, start - 1)
    raise FormError("its end is missing" if start >= 0 else "its boundary is not in the body")


def _split(part: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Return the headers by name, in lower case, and the content of a part."""
    if part.startswith((b"\r\n", b"\n")):
        return {}, part[2 if part[:1] == b"\r" else 1 :]
    end = _HEAD_END.search(part, 0, _HEAD_BYTES)
    if end is None:
        raise FormError(f"the headers of a part do not end within {_HEAD_BYTES // 1024} kB")
    headers: dict[bytes, bytes] = {}
    for line in _FOLD.sub(b" ", part[: end.start()]).splitlines():
        name, _, value = line.partition(b":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers, part[end.end() :]


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a header by name, in lower case, without quotes."""
    found: dict[bytes, bytes] = {}
    for name, text in _PARAMETER.findall(value):
        text = text.strip()
        if len(text) > 1 and text[:1] == text[-1:] == b'"':
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1])
        found.setdefault(name.lower(), text)
    return found


def _decoded(content: bytes, encoding: bytes) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in (b"", b"binary", b"8bit", b"7bit"):
        return content
    try:
        if encoding == b"base64":
            return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error as error:
        raise FormError(f"a part is not valid base64, as its transfer encoding requires: {error}") from error
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(content)
    raise FormError(f"unknown transfer encoding {encoding[:40].decode('latin-1')!r} of a part")
