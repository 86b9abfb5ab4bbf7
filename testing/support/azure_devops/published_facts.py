"""What the published specification of Azure DevOps says about the calls that we make and answer, as a table of facts.

The specification is the repository MicrosoftDocs/vsts-rest-api-specs. What is kept of it in ``published_facts.yml`` are, for
each operation, its version, the names of its parameters, and paths of fields with their types: no text. Fields whose names
nobody here uses are left out. To refresh the table from a bare or ordinary clone::

    python -m testing.support.azure_devops.published_facts CLONE

A field that is ``free`` has keys of the caller's choice, or of a kind of resource.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from testing.support.azure_devops.refusals import Json
from testing.support.azure_devops.service import OPERATIONS

FILE = Path(__file__).with_name("published_facts.yml")
_ROOT = Path(__file__).parents[3]
_SOURCES = (Path(__file__).parent, _ROOT / "src" / "vision_mlops" / "devops" / "setup")
_FILES = (
    "core/7.1/core.json", "operations/7.1/operations.json", "git/7.1/git.json", "policy/7.1/policy.json",
    "serviceEndpoint/7.1/serviceEndpoint.json", "distributedTask/7.1/taskAgent.json", "build/7.1/build.json",
    "approvalsAndChecks/7.1/pipelinesChecks.json", "approvalsAndChecks/7.1/pipelinePermissions.json",
    "security/7.1/security.json", "ims/7.1/identities.json", "graph/7.1/graph.json",
    "memberEntitlementManagement/7.1/memberEntitlementManagement.json",
)  # fmt: skip
_DEPTH = 6
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def read_facts() -> dict[str, Json]:
    """The table, by method and pattern of the operations."""
    found: dict[str, Json] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def used_fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of each field of a body."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from used_fields(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from used_fields(item, f"{path}[]")
    elif path:
        yield path, value


def problem_with(path: str, value: Any, facts: dict[str, str]) -> str:
    """Why a field is not one of the published ones; empty where it is."""
    steps = re.split(r"(?=\.|\[\])", path)
    for length in range(1, len(steps) + 1):
        if facts.get("".join(steps[:length])) == "free":
            return ""
    if path not in facts:
        return "is not published"
    known, kind = facts[path], _KINDS.get(type(value), "null")
    if "|" in known:
        return "" if value in known.split("|") else f"is published as {known}, not {value}"
    same = kind in ("null", known) or (kind == "integer" and known == "number")
    return "" if same or known == "any" else f"is published as {known}, not {kind}"


def _git(clone: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(clone), *words], check=True, capture_output=True).stdout.decode("utf-8-sig")


@cache
def _paths(clone: Path) -> dict[str, str]:
    """Paths of all files, by how they are written in small letters."""
    names = _git(clone, "ls-tree", "-r", "--name-only", "HEAD", "specification/").splitlines()
    return {name.lower(): name for name in names}


class _Specification:
    """One file of the specification."""

    def __init__(self, clone: Path, name: str) -> None:
        self._clone, self._folder = clone, f"specification/{name.rpartition('/')[0]}"
        self._content = self._read(f"specification/{name}")

    def _read(self, path: str) -> Json:
        # References to examples do not mind whether letters are large.
        found: Json = json.loads(_git(self._clone, "show", f"HEAD:{_paths(self._clone)[path.lower()]}"))
        return found

    def operations(self, method: str, pattern: str) -> list[Json]:
        """The operations of a path, whose names of parameters do not count."""
        paths = {**self._content["paths"], **self._content.get("x-ms-paths", {})}
        wanted = _anonymous(f"/{{organization}}/{pattern}")
        return [
            item[method.lower()]
            for path, item in paths.items()
            if _anonymous(path) == wanted and method.lower() in item
        ]

    def facts(self, operations: list[Json]) -> Json:
        """Version, parameters and fields of some operations of one path."""
        names = [item["$ref"].rpartition("/")[2] for item in operations[0]["parameters"] if "$ref" in item]
        version = next(name for name in names if name.startswith("api-Version"))
        parameters = [item for each in operations for item in each["parameters"]]
        found: Json = {"version": version.replace("api-Version", "7.1")}
        found["query"] = sorted({item["name"] for item in parameters if item.get("in") == "query"})
        bodies = [item["schema"] for item in parameters if item.get("in") == "body"]
        answers = [item["schema"] for each in operations for item in each["responses"].values() if "schema" in item]
        examples = list(self._examples(operations))
        found["request"] = self._fields(bodies, [sent for sent, _ in examples])
        answer = self._fields(answers, [got for _, got in examples])
        rows = {f"value{path}": kind for path, kind in answer.items() if path.startswith("[]")}
        found["response"] = {**{key: kind for key, kind in answer.items() if not key.startswith("[]")}, **rows}
        if rows:
            found["response"]["count"] = "integer"
        return found

    def _examples(self, operations: list[Json]) -> Iterator[tuple[Any, Any]]:
        for operation in operations:
            for item in operation.get("x-ms-examples", {}).values():
                example = self._read(f"{self._folder}/{item['$ref'].removeprefix('./')}")
                for answer in example.get("responses", {}).values():
                    yield example.get("parameters", {}).get("body"), answer.get("body")

    def _fields(self, schemas: list[Json], examples: list[Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for example in examples:
            for path, value in used_fields(example):
                found.setdefault(path, _KINDS.get(type(value), "any"))
        for schema in schemas:
            found.update(self._flat(schema, "", 0))
        return {path: kind for path, kind in sorted(found.items()) if _words(path) <= _names()}

    def _flat(self, schema: Json, path: str, depth: int) -> Iterator[tuple[str, str]]:
        if depth > _DEPTH:
            return
        if "$ref" in schema:
            schema = self._content["definitions"][schema["$ref"].rpartition("/")[2]]
        properties = dict(self._properties(schema))
        kind = schema.get("type", "object" if properties or "allOf" in schema else "any")
        if "enum" in schema:
            yield path, "|".join(schema["enum"])
            return
        if kind == "array":
            yield from self._flat(schema["items"], f"{path}[]", depth + 1)
        elif properties:
            for name, inner in properties.items():
                yield from self._flat(inner, f"{path}.{name}" if path else name, depth + 1)
        else:
            yield path, "free" if kind in ("object", "any") else kind

    def _properties(self, schema: Json) -> Iterator[tuple[str, Json]]:
        for parent in schema.get("allOf", ()):
            if "$ref" in parent:
                yield from self._properties(self._content["definitions"][parent["$ref"].rpartition("/")[2]])
            yield from parent.get("properties", {}).items()
        yield from schema.get("properties", {}).items()


def _anonymous(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path.partition("?")[0]).lower().rstrip("/")


def _words(path: str) -> set[str]:
    return set(re.findall(r"[\w$-]+", path))


@cache
def _names() -> set[str]:
    """All words of our sources."""
    files = [file for folder in _SOURCES for file in folder.glob("*.py")]
    return {word for file in files for word in re.findall(r"[\w$-]+", file.read_text(encoding="utf-8"))}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clone", type=Path)
    clone = parser.parse_args().clone
    specifications = [_Specification(clone, name) for name in _FILES]
    facts = {}
    for operation in OPERATIONS:
        for specification in specifications:
            if found := specification.operations(operation.method, operation.pattern):
                facts[f"{operation.method} {operation.pattern}"] = specification.facts(found)
                break
        else:
            raise SystemExit(f"{operation.method} {operation.pattern} is not published")
    FILE.write_text(yaml.safe_dump(facts, sort_keys=False, width=125), encoding="utf-8")


if __name__ == "__main__":
    main()
