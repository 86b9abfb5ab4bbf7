"""Requests that have all fields of a published example, and answers that are held against one, field by field."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml
from testing.emulator.rest_examples import FOLDER, ROWS, Json, read_calls

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")
_DURATION = re.compile(r"P(\d+[YMWD])*(T(\d+(\.\d+)?[HMS])+)?")
_FILLERS: Json = {
    "any": None, "array": [], "boolean": False, "date-time": "2030-01-01T00:00:00Z", "duration": "PT5M", "integer": 1,
    "number": 1.5, "object": {}, "string": "text", "unixtime": 1_700_000_000,
}  # fmt: skip
_PLAIN = {"array": list, "boolean": bool, "integer": int, "object": dict, "string": str, "unixtime": int}


@cache
def facts() -> Json:
    """The table of facts about the examples."""
    found: Json = yaml.load((FOLDER / "facts.yml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return found


@dataclass(frozen=True)
class Difference:
    """What an answer does not have as the example has it."""

    path: str
    problem: str


@dataclass
class ContractCall:
    """A call of ``calls.yml`` and what is known of its example."""

    entry: Json
    facts: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return str(self.entry["name"])

    @property
    def accepted(self) -> Json:
        """Reasons for differences, by path."""
        found: Json = self.entry["differences"]
        return found

    def body(self) -> Json | None:
        """The request: each field of the example, filled."""
        if "request" not in self.facts:
            return None
        body: Json = {}
        words = self.facts.get("words", {})
        for kind, paths in self.facts["request"].items():
            for path in paths:
                if not covered(path, self.entry.get("left_out", {})):
                    _put(body, path, words.get(path, _FILLERS.get(kind)))
        for path, value in self.entry.get("body", {}).items():
            _put(body, path, value)
        return body

    def sent_fields(self) -> list[str]:
        """Paths of the fields that the request has."""
        paths = [path for paths in self.facts.get("request", {}).values() for path in paths]
        return [path for path in paths if not covered(path, self.entry.get("left_out", {}))]

    def compared(self, status: int) -> list[tuple[str, str]]:
        """Path and type of each field of the answer of a status."""
        response = self.facts["responses"].get(status, {})
        found = [(kind, path) for kind, paths in response.get("fields", {}).items() for path in paths]
        found += [(kind, f"{ROWS}{path}") for kind, paths in response.get("rows", {}).items() for path in paths]
        return [(path, kind) for kind, path in found]

    def differences(self, status: int, headers: Json, body: object) -> list[Difference]:
        """How an answer differs from the example."""
        response = self.facts["responses"].get(status)
        if status not in self.facts["statuses"]:
            return [Difference("status", f"is {status}, not {' or '.join(map(str, self.facts['statuses']))}")]
        if response is None:  # declared, and without an example
            return []
        lacking = [name for name in response.get("headers", ()) if name not in headers]
        found = [Difference(f"header {name}", "is missing") for name in lacking]
        for path, kind in self.compared(status):
            problem = _problem(body, path, kind)
            if problem:
                found.append(Difference(path, problem))
        return sorted(set(found), key=lambda item: item.path)

    def unexpected(self, status: int, headers: Json, body: object) -> list[Difference]:
        """The differences that nobody has given a reason for."""
        return [item for item in self.differences(status, headers, body) if not covered(item.path, self.accepted)]


@cache
def contract() -> tuple[ContractCall, ...]:
    """All calls, in order."""
    return tuple(ContractCall(entry, facts()["calls"].get(entry["name"], {})) for entry in read_calls())


def without(body: Any, path: str) -> Any:
    """An answer without a field; from lists and free keys it is taken everywhere."""
    part, _, rest = path.partition(".")
    name = part.removesuffix("[]")
    if not isinstance(body, dict) or (name != "*" and name not in body):
        return body
    if not rest:
        return {} if name == "*" else {key: value for key, value in body.items() if key != name}
    changed: Json = {}
    for key in body if name == "*" else [name]:
        value = body[key]
        several = part.endswith("[]") and isinstance(value, list)
        changed[key] = [without(item, rest) for item in value] if several else without(value, rest)
    return {**body, **changed}


def covered(path: str, reasons: Json) -> bool:
    """Whether a path, or one above it, is among those of some reasons."""
    path = path.removeprefix(ROWS)  # a difference of a resource is one of the lists of it too
    return any(path == known or path.startswith((f"{known}.", f"{known}[]")) for known in reasons)


def _find(body: object, path: str) -> Iterator[object]:
    """The values at a path."""
    if not path:
        yield body
        return
    part, _, rest = path.partition(".")
    name = part.removesuffix("[]")
    if not isinstance(body, dict):
        return
    values = list(body.values()) if name == "*" else [body[name]] if name in body else []
    for value in values:
        if part.endswith("[]"):
            for item in value if isinstance(value, list) else ():
                yield from _find(item, rest)
        else:
            yield from _find(value, rest)


def _problem(body: object, path: str, kind: str) -> str:
    """What is wrong with a field; empty where nothing is."""
    if kind == "required":
        parent, _, last = path.rpartition(".")
        holders = [item for item in _find(body, parent) if isinstance(item, dict)]
        return "is required" if any(item.get(last.removesuffix("[]")) is None for item in holders) else ""
    found = list(_find(body, path))
    if not found:
        return "is missing"
    return "" if any(_fits(value, kind) for value in found) else f"is {found[0]!r}, not of type {kind}"


def _fits(value: object, kind: str) -> bool:
    if kind == "any":
        return True
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "date-time":
        return isinstance(value, str) and _MOMENT.fullmatch(value) is not None
    if kind == "duration":
        return isinstance(value, str) and _DURATION.fullmatch(value) is not None
    if kind in _PLAIN:
        return isinstance(value, _PLAIN[kind]) and (kind == "boolean" or not isinstance(value, bool))
    return value in facts()["enums"][kind]


def _put(body: Json, path: str, value: Any) -> None:
    """Set a field of a request, and make what it is in."""
    *parents, last = path.split(".")
    here: Any = body
    for part in parents:
        name = "one" if part == "*" else part.removesuffix("[]")
        if part.endswith("[]"):
            rows = here.setdefault(name, [])
            if not rows:
                rows.append({})
            here = rows[0]
        else:
            here = here.setdefault(name, {})
    here["one" if last == "*" else last] = copy.deepcopy(value)
