"""The table of what version 1 of Azure ML called things, and of what takes its place: ``v1_names.yml``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vision_mlops.core.errors import Severity

_TABLE = Path(__file__).with_name("v1_names.yml")
# Between two words: spaces, a line that goes on, or the quotes and comma of a list of arguments.
_BETWEEN = r"(?:[ \t]+|[ \t]*\\\n\s*|[\"']\s*,\s*[\"'])"
GUIDE = "https://github.com/vision-mlops/vision-mlops/blob/main/docs/how_to/migrate_v1.md"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ended(_Row):
    """What ended, and when."""

    what: str
    day: date


class Replacement(_Row):
    """Names that have the same replacement."""

    names: tuple[str, ...] = Field(min_length=1)
    replacement: str


class ModuleReplacement(Replacement, Ended):
    """Python modules outside of ``azureml``, which ended on a day of their own."""


class TextReplacement(Replacement):
    """What a regular expression finds in a line; without a day it is advice."""

    pattern: str
    what: str
    day: date | None = None


class Topic(_Row):
    """A heading of the guide, and the rows of its table."""

    heading: str
    guide: str
    """The guide to the replacement."""
    python: tuple[Replacement, ...] = ()
    modules: tuple[ModuleReplacement, ...] = ()
    commands: tuple[Replacement, ...] = ()
    texts: tuple[TextReplacement, ...] = ()
    retirements: bool = False

    @property
    def link(self) -> str:
        """Where in the guide it is, as headings become addresses."""
        return f"{GUIDE}#{re.sub(r'[^a-z0-9 -]', '', self.heading.lower()).replace(' ', '-')}"


class V1Names(_Row):
    """The whole table."""

    checked: date
    sdk: Ended
    cli: Ended
    still_used: tuple[str, ...]
    returns: dict[str, str]
    elements: dict[str, str]
    topics: tuple[Topic, ...]

    def topic(self, heading: str) -> Topic:
        """Return the topic of a heading."""
        return next(topic for topic in self.topics if topic.heading == heading)


@dataclass(frozen=True)
class Match:
    """A row of the table for something that was found.

    Attributes:
        name: What was found, as the table calls it, or as it stands.
        ended: What is over, or is to be; a text without a day is advice.
        day: When.
        replacement: What to use instead.
        topic: Where in the guide it is.
        severity: How bad it is before its day comes near.
    """

    name: str
    ended: str
    day: date | None
    replacement: str
    topic: Topic
    severity: Severity = Severity.NOTE


@cache
def v1_names() -> V1Names:
    """Read the table."""
    return V1Names.model_validate(yaml.safe_load(_TABLE.read_text(encoding="utf-8")))


def short_name(dotted: str) -> str:
    """Return a name without the modules that it is imported from: from its first class on, or its last part.

    ``azureml.core.model.Model.register`` and ``azureml.core.Model.register`` are both ``Model.register``.
    """
    parts = dotted.split(".")
    first = next((number for number, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    return ".".join(parts[first:])


def match_python(dotted: str) -> Match | None:
    """Match a dotted name of Python; None where it is neither of version 1 nor retired otherwise."""
    table = v1_names()
    for topic in table.topics:
        for row in topic.modules:
            if any(_is_below(dotted, name) for name in row.names):
                return Match(dotted, row.what, row.day, row.replacement, topic)
    if not _is_below(dotted, "azureml") or any(_is_below(dotted, name) for name in table.still_used):
        return None
    name = short_name(dotted)
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if found := _rows().get(".".join(parts[:length])):
            topic, row_ = found
            return Match(name, table.sdk.what, table.sdk.day, row_.replacement, topic)
    shown = dotted if name.islower() else name
    return Match(shown, table.sdk.what, table.sdk.day, "azure-ai-ml (version 2)", table.topics[0])


def match_commands(text: str) -> Iterator[tuple[int, Match]]:
    """Yield line and match of each command of the CLI's first extension in any text, also as a list of arguments."""
    table = v1_names()
    for pattern, name, topic, row in _commands() if "ml" in text else ():
        for found in pattern.finditer(text):
            match = Match(name, table.cli.what, table.cli.day, row.replacement, topic)
            yield text.count("\n", 0, found.start()) + 1, match


def match_line(line: str) -> Iterator[Match]:
    """Yield matches of texts in a line of any file."""
    for topic in v1_names().topics:
        for text in topic.texts:
            if seen := re.search(text.pattern, line):
                yield Match(seen[0], text.what, text.day, text.replacement, topic)


def _is_below(dotted: str, package: str) -> bool:
    return dotted == package or dotted.startswith(f"{package}.")


@cache
def _rows() -> dict[str, tuple[Topic, Replacement]]:
    return {name: (topic, row) for topic in v1_names().topics for row in topic.python for name in row.names}


@cache
def _commands() -> tuple[tuple[re.Pattern[str], str, Topic, Replacement], ...]:
    """Make a pattern for each command: nothing of version 2 begins with the same words."""
    return tuple(
        (re.compile(rf"\b{_BETWEEN.join(['az', 'ml', *name.split()])}(?![\w-])"), f"az ml {name}", topic, row)
        for topic in v1_names().topics
        for row in topic.commands
        for name in row.names
    )
