"""What a step tells the agent by a line of its output: ``##vso[task.setvariable variable=x;isOutput=true]value``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_COMMAND = re.compile(r"##vso\[(?P<name>[A-Za-z]+\.[A-Za-z]+)(?: (?P<properties>[^\]]*))?\](?P<message>.*)")
_ESCAPES = (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%AZP25", "%"))


@dataclass(frozen=True)
class LoggingCommand:
    """One such line.

    Attributes:
        area_action: Such as ``task.setvariable``, in small letters.
        properties: By their names in small letters.
        message: What follows the bracket.
    """

    area_action: str
    properties: Mapping[str, str]
    message: str


def command_in(line: str) -> LoggingCommand | None:
    """The command in a line of output; None for ordinary lines."""
    found = _COMMAND.search(line)
    if not found:
        return None
    properties = {}
    for item in (found["properties"] or "").split(";"):
        name, equals, value = item.partition("=")
        if equals:
            properties[name.strip().lower()] = _plain(value)
    return LoggingCommand(found["name"].lower(), properties, _plain(found["message"].rstrip("\r\n")))


def commands_in(script: str) -> Iterator[LoggingCommand]:
    """The commands that stand in the text of a script."""
    for line in script.splitlines():
        command = command_in(line)
        if command:
            yield command


def _plain(text: str) -> str:
    for written, meant in _ESCAPES:
        text = text.replace(written, meant)
    return text
