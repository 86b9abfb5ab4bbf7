"""What the published examples of Azure's REST specification say about the routes of the emulator, as a table of facts.

The specification is the repository Azure/azure-rest-api-specs. For each call in ``rest_contract/calls.yml`` the example of
its operation is found there. What is kept of it in ``rest_contract/facts.yml`` are the paths of its fields with their types,
allowed words, status codes and headers: no text. To refresh the table from a checkout::

    python -m testing.emulator.rest_examples CHECKOUT

An answer that is a list is taken for an object with it as its ``value``.

A field's path is written ``properties.services.*.port`` where keys are free, and ``value[].id`` in lists.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "rest_contract"
Json = dict[str, Any]
ROWS = "value[]."
"""Where the rows of a list are in its answer."""


class SpecificationError(Exception):
    """The checkout does not have what a call needs."""


@cache
def _read(file: Path) -> Json:
    found: Json = json.loads(file.read_text(encoding="utf-8-sig"))
    return found


def _follow(reference: str, file: Path) -> tuple[Json, Path]:
    """What a ``$ref`` in a file points to, and the file that it is in."""
    name, _, pointer = reference.partition("#")
    target = (file.parent / name).resolve() if name else file
    found: Any = _read(target)
    for part in pointer.strip("/").split("/") if pointer else ():
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found, target


def _derives(schema: Json, base: Json, file: Path) -> bool:
    """Whether a schema is derived from another one of its file."""
    parents = [_follow(parent["$ref"], file)[0] for parent in schema.get("allOf", ()) if "$ref" in parent]
    return any(parent is base or _derives(parent, base, file) for parent in parents)


class Shape:
    """An object's schema with all that it is derived from: fields, required ones, and the schema of free keys."""

    def __init__(self, schema: Json, file: Path, value: object = None) -> None:
        self.fields: dict[str, tuple[Json, Path]] = {}
        self.required: set[str] = set()
        self.free: tuple[Json, Path] | None = None
        self._add(schema, file, value)

    def _add(self, schema: Json, file: Path, value: object) -> None:
        while "$ref" in schema:
            schema, file = _follow(schema["$ref"], file)
        for parent in schema.get("allOf", ()):
            self._add(parent, file, None)
        self.fields.update({name: (field, file) for name, field in schema.get("properties", {}).items()})
        self.required.update(schema.get("required", ()))
        if isinstance(schema.get("additionalProperties"), dict):
            self.free = schema["additionalProperties"], file
        if isinstance(value, dict) and (word := value.get(schema.get("discriminator"))):
            for name, other in _read(file).get("definitions", {}).items():
                if other.get("x-ms-discriminator-value", name) == word and _derives(other, schema, file):
                    self._add(other, file, None)


def _facts(value: object, schema: Json, file: Path, path: str, enums: Json) -> Iterator[tuple[str, object]]:
    """Path and type of each field of an example; where a schema allows some words only, the enumeration and the word."""
    while "$ref" in schema:
        schema, file = _follow(schema["$ref"], file)
    if isinstance(value, dict):
        shape = Shape(schema, file, value)
        if not value and path:
            yield path, "object"
        for name, item in value.items():
            known = shape.fields.get(name)
            free = known is None and (shape.free is not None or not shape.fields)
            inner, where = known or shape.free or ({}, file)
            yield from _facts(item, inner, where, f"{path}.{'*' if free else name}".lstrip("."), enums)
    elif isinstance(value, list):
        if not value or not isinstance(value[0], dict):
            yield path, "array"
        for item in value:
            if isinstance(item, dict):
                yield from _facts(item, schema.get("items", {}), file, f"{path}[]", enums)
    elif isinstance(value, str) and (words := schema.get("enum")):
        name = (schema.get("x-ms-enum") or {}).get("name") or path.rpartition(".")[2]
        name = next(key for key in _names(name) if enums.setdefault(key, words) == words)
        yield path, [name, value]
    else:
        yield path, _type(value, schema)


def _names(name: str) -> Iterator[str]:
    """A name for an enumeration, and further ones: versions of an interface do not agree on its words."""
    yield name
    for number in range(2, 100):
        yield f"{name}.{number}"


def _type(value: object, schema: Json) -> str:
    if schema.get("format") in ("date-time", "duration", "unixtime"):
        return str(schema["format"])
    if value is None:
        return "any"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "number" if schema.get("type") == "number" else "integer"
    return "number" if isinstance(value, float) else "string"


def _required(value: object, schema: Json, file: Path, path: str = "") -> Iterator[str]:
    """Paths of the fields that the schema of an example demands."""
    while "$ref" in schema:
        schema, file = _follow(schema["$ref"], file)
    if isinstance(value, list):
        for item in value:
            yield from _required(item, schema.get("items", {}), file, f"{path}[]")
    if not isinstance(value, dict):
        return
    shape = Shape(schema, file, value)
    yield from (f"{path}.{name}".lstrip(".") for name in shape.required)
    for name, item in value.items():
        known = shape.fields.get(name)
        inner, where = known or shape.free or ({}, file)
        free = known is None and (shape.free is not None or not shape.fields)
        yield from _required(item, inner, where, f"{path}.{'*' if free else name}".lstrip("."))


def _table(kinds: dict[str, object]) -> Json:
    """Paths by type; that of a field with a few allowed words is the name of its enumeration."""
    table: Json = {}
    for path, kind in kinds.items():
        table.setdefault(kind[0] if isinstance(kind, list) else str(kind), []).append(path)
    return {key: sorted(table[key]) for key in sorted(table)}


class Specification:
    """A checkout of the specification."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._enums: Json = {}
        self._shapes: dict[str, Json] = {}

    def facts(self, calls: list[Json]) -> Json:
        """The table for all calls that have a published example."""
        found = {call["name"]: self._call(call) for call in calls if "without_example" not in call}
        return {"enums": self._enums, "calls": found}

    def _call(self, call: Json) -> Json:
        operation, swagger = self._operation(call)
        examples = {title: item["$ref"] for title, item in operation.get("x-ms-examples", {}).items()}
        wanted = call.get("example", "")
        fitting = sorted(ref for ref in examples.values() if wanted in ref)
        if not fitting:
            raise SpecificationError(f"{call['name']}: no example {wanted!r} among {sorted(examples.values())}")
        file = (swagger.parent / fitting[0]).resolve()
        example = _read(file)
        found: Json = {"example": str(file.relative_to(self._checkout.resolve() / "specification"))}
        for parameter in operation.get("parameters", ()):
            where = swagger
            while "$ref" in parameter:
                parameter, where = _follow(parameter["$ref"], where)
            if parameter.get("in") == "body" and isinstance(example["parameters"].get(parameter["name"]), dict):
                body = example["parameters"][parameter["name"]]
                kinds = dict(_facts(body, parameter["schema"], where, "", self._enums))
                found["request"] = _table(kinds)
                found["words"] = {path: kind[1] for path, kind in sorted(kinds.items()) if isinstance(kind, list)}
        found["statuses"] = sorted(int(status) for status in operation["responses"] if status.isdigit())
        found["responses"] = {
            int(status): self._response(response, operation["responses"].get(status, {}), swagger)
            for status, response in example["responses"].items()
            if status.isdigit()
        }
        return found

    def _response(self, example: Json, declared: Json, swagger: Path) -> Json:
        found: Json = {}
        headers = sorted(name.lower() for name in example.get("headers") or {})
        if headers:
            found["headers"] = headers
        body, schema = example.get("body"), declared.get("schema", {})
        if isinstance(body, list):
            body, schema = {"value": body}, {"properties": {"value": schema}}
        if isinstance(body, dict):
            kinds = dict(_facts(body, schema, swagger, "", self._enums))
            required = set(_required(body, schema, swagger))
            rows = {path.removeprefix(ROWS): kind for path, kind in kinds.items() if path.startswith(ROWS)}
            if rows:  # a list: its rows look as one of them does when it is asked for alone
                found["rows"] = self._shape(rows, {path.removeprefix(ROWS) for path in required if ROWS in path})
            fields = {path: kind for path, kind in kinds.items() if not path.startswith(ROWS)}
            found["fields"] = self._shape(fields, {path for path in required if not path.startswith(ROWS)})
            if "$ref" in schema:
                found["model"] = schema["$ref"].rpartition("/")[2]
        return found

    def _shape(self, kinds: dict[str, object], required: set[str]) -> Json:
        """The table of an answer. The same one is written once, and referred to by all answers that share it."""
        table = _table(kinds) | ({"required": sorted(required)} if required else {})
        return self._shapes.setdefault(json.dumps(table, sort_keys=True), table)

    def _operation(self, call: Json) -> tuple[Json, Path]:
        version = call.get("published", call["version"])
        folder = self._checkout / "specification" / call["folder"]
        address: str = call.get("operation") or call["path"]
        segments = address.split("?")[0].strip("/").lower().split("/")
        best: tuple[int, Json, Path] | None = None
        for swagger in sorted(folder.glob(f"**/{version}/*.json")):
            for template, methods in {
                **_read(swagger).get("paths", {}),
                **_read(swagger).get("x-ms-paths", {}),
            }.items():
                parts = template.split("?")[0].strip("/").lower().split("/")
                same = [a == b or a.startswith("{") for a, b in zip(parts, segments, strict=False)]
                score = sum(not part.startswith("{") for part in parts)
                fits = len(parts) == len(segments) and all(same) and call["method"].lower() in methods
                if fits and (best is None or score > best[0]):
                    best = score, methods[call["method"].lower()], swagger
        if best is None:
            raise SpecificationError(f"{call['name']}: no {call['method']} {call['path']} in {version} below {folder}")
        return best[1:]


def read_calls() -> list[Json]:
    """The calls of ``calls.yml``, each with all that its section says."""
    content: Json = yaml.safe_load((FOLDER / "calls.yml").read_text(encoding="utf-8"))
    names: Json = content["names"]
    found: list[Json] = []
    for section in content["sections"]:
        for call in section["calls"]:
            (method,) = [key for key in call if key in ("GET", "PUT", "POST", "PATCH", "DELETE")]
            common = {key: value for key, value in section.items() if key != "calls"}
            differences = {**section.get("differences", {}), **call.get("differences", {})}
            name = call.get("name", f"{method} {call[method]}")
            call = _named(call, names)
            entry: Json = {**common, **call, "method": method, "path": call[method], "differences": differences}
            found.append({**entry, "name": name})
    return found


def _named(part: Any, names: Json) -> Any:
    """A part of a call with its names filled in; a name may be made of those above it."""
    if isinstance(part, dict):
        return {key: _named(value, names) for key, value in part.items()}
    if isinstance(part, list):
        return [_named(item, names) for item in part]
    if isinstance(part, str):
        for name in reversed(names):
            part = part.replace(f"{{{name}}}", names[name])
    return part


def main() -> int:
    """Write the table anew."""
    parser = argparse.ArgumentParser(description="Write facts.yml from a checkout of Azure/azure-rest-api-specs.")
    parser.add_argument("checkout", type=Path, help="folder that holds specification/")
    checkout: Path = parser.parse_args().checkout
    if not (checkout / "specification").is_dir():
        parser.error(f"{checkout} holds no folder specification/: give a checkout of Azure/azure-rest-api-specs")
    try:
        facts = Specification(checkout).facts(read_calls())
    except SpecificationError as error:
        print(error, file=sys.stderr)
        return 2
    head = "# Written by rest_examples.py from Azure/azure-rest-api-specs: facts about its examples. Do not edit.\n"
    text = yaml.safe_dump(facts, sort_keys=False, width=150, default_flow_style=None)
    (FOLDER / "facts.yml").write_text(head + text, encoding="utf-8")
    print(f"{len(facts['calls'])} calls")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
