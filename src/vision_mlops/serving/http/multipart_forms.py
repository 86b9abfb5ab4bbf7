"""Files of a multipart form, out of a body that is in memory already."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

_OTHER_PARTS = 20


class FormError(ValueError):
    """The body is not a multipart form, or has too many parts."""


@dataclass(slots=True)
class _Collector:
    """Takes what the parser finds; the parser's callbacks are its methods."""

    limit: int
    files: list[bytes] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    ended: bool = False
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _content: list[bytes] = field(default_factory=list)

    def part_begin(self) -> None:
        self._disposition, self._content = b"", []
        if len(self.files) > self.limit or len(self.fields) >= _OTHER_PARTS:
            raise FormError("it has too many parts")

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def part_end(self) -> None:
        _kind, options = parse_options_header(self._disposition)
        if b"filename" in options or b"filename*" in options:
            self.files.append(b"".join(self._content))
        else:
            self.fields.append(options.get(b"name", b"").decode("utf-8", "replace")[:40] or "(no name)")

    def end(self) -> None:
        self.ended = True


def read_files(content_type: str, body: bytes, limit: int) -> tuple[list[bytes], list[str]]:
    """Contents of the parts that are files, and names of those that are not.

    Args:
        content_type: With the boundary.
        body: The whole form.
        limit: Most files that are wanted; reading ends one above it.

    Raises:
        FormError: says what is wrong with it.
    """
    _kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise FormError("the content type names no boundary")
    found = _Collector(limit)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": found.part_begin,
                "on_part_data": found.part_data,
                "on_part_end": found.part_end,
                "on_header_field": found.header_field,
                "on_header_value": found.header_value,
                "on_header_end": found.header_end,
                "on_end": found.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormError:
        if len(found.files) > limit:
            return found.files, found.fields
        raise
    except FormParserError as error:
        raise FormError(str(error)) from error
    if not found.ended:
        raise FormError("its end is missing")
    return found.files, found.fields
