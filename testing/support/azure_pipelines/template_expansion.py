"""Templates expanded: what is left of a pipeline when every ``${{ }}`` and every ``template:`` has been replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from testing.support.azure_pipelines.expression import OPENING, Scope, interpolated
from testing.support.azure_pipelines.expression_values import Names, Value, is_list, to_bool, to_text
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_files import PipelineFiles, Tree
from testing.support.azure_pipelines.template_parameters import bound, declared

SECTIONS = ("stages", "jobs", "steps", "variables")
"""Lists in which ``template:`` stands for what a file has below the same key."""
_DIRECTIVE = re.compile(r"^\$\{\{\s*(if|elseif|else|each|insert)\b\s*(.*?)\s*\}\}$", re.DOTALL)
_EACH = re.compile(r"^([A-Za-z_]\w*)\s+in\s+(.+)$", re.DOTALL)
_DEEPEST = 100
_MOST_FILES = 100


@dataclass(frozen=True)
class Place:
    """Where expansion is: in which file, and what may be named there."""

    file: str
    scope: Scope
    depth: int = 0

    def inside(self, file: str, scope: Scope) -> Place:
        """The place in a template that is named here."""
        if self.depth >= _DEEPEST:
            raise PipelineError(f"{file}: templates are nested more than {_DEEPEST} deep")
        return Place(file, scope, self.depth + 1)

    def with_variables(self, found: Mapping[str, str]) -> Place:
        """The place with further variables."""
        variables = Names({**self.scope.contexts["variables"], **found})
        return replace(self, scope=self.scope.with_names(variables=variables))


@dataclass
class Expanded:
    """A pipeline without templates and expressions of compile time.

    Attributes:
        tree: The mapping that is left; all scalars are texts.
        parameters: Those of the pipeline, with their values.
        files: All that were read.
    """

    tree: dict[str, Tree]
    parameters: dict[str, Value]
    files: list[str] = field(default_factory=list)


def expand(
    files: PipelineFiles,
    path: str,
    parameters: Mapping[str, Value] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Expanded:
    """Expand a pipeline.

    Args:
        files: Of the repository.
        path: Of the pipeline.
        parameters: What is given when the run is queued.
        variables: Predefined ones that are known before the run starts.

    Raises:
        PipelineError: the service would refuse it.
    """
    return _Expansion(files).pipeline(path, dict(parameters or {}), Names(variables or {}))


class _Expansion:
    def __init__(self, files: PipelineFiles) -> None:
        self._files = files
        self._seen: list[str] = []

    def pipeline(self, path: str, given: dict[str, Value], variables: Names) -> Expanded:
        tree, values = self._opened(path, given)
        place = Place(
            path, Scope({"parameters": Names(values), "variables": variables}, strict=("parameters", "variables"))
        )
        root = self._level(tree, place)
        if "extends" in root:
            root = self._extended(root, place)
        return Expanded(_texts(root), values, self._seen)

    def _opened(self, path: str, given: Mapping[str, Value]) -> tuple[dict[str, Tree], dict[str, Value]]:
        self._seen.append(path)
        if len(self._seen) > _MOST_FILES:
            raise PipelineError(f"more than {_MOST_FILES} files are included")
        tree = self._files.tree(path)
        return tree, bound(declared(tree.pop("parameters", None), path), given, path)

    def _extended(self, root: dict[str, Tree], place: Place) -> dict[str, Tree]:
        reference = root.pop("extends")
        both = [key for key in ("stages", "jobs", "steps") if key in root]
        if both:
            raise PipelineError(f"{place.file}: extends and {both[0]} exclude each other")
        path = self._files.resolved(_template_name(reference, place), place.file)
        tree, values = self._opened(path, reference.get("parameters") or {})
        known = {item["name"]: item["value"] for item in root.get("variables", []) if "value" in item}
        inner = place.inside(path, place.with_variables(known).scope.with_names(parameters=Names(values)))
        below = self._level(tree, inner)
        listed = [*root.get("variables", []), *below.pop("variables", [])]
        return {**below, **root, **({"variables": listed} if listed else {})}

    def _level(self, tree: Mapping[str, Tree], place: Place) -> dict[str, Tree]:
        """A pipeline, stage or job: its variables first, as what follows may name them."""
        listed: list[dict[str, Tree]] = []
        if "variables" in tree:
            listed = self._variables(tree["variables"], place)
            place = place.with_variables({item["name"]: item["value"] for item in listed if "name" in item})
        rest = self._mapping({key: value for key, value in tree.items() if key != "variables"}, place)
        return {**({"variables": listed} if "variables" in tree else {}), **rest}

    def _variables(self, tree: Tree, place: Place) -> list[dict[str, Tree]]:
        """A list of variables, groups told by name; what is given as a mapping becomes such a list."""
        if isinstance(tree, Mapping):
            items = self._mapping(tree, place)
            return [{"name": name, "value": _text(value), "file": place.file} for name, value in items.items()]
        return self._variable_list(tree, place)[0]

    def _variable_list(self, tree: Tree, place: Place) -> tuple[list[dict[str, Tree]], Place]:
        if not isinstance(tree, list):
            raise PipelineError(f"{place.file}: variables are neither a list nor a mapping")
        found: list[dict[str, Tree]] = []
        state = _Branches()
        for item in tree:
            key = _only_directive(item)
            if key:
                for content, inner in self._chosen(state, key, item[key], place):
                    more, deeper = self._variable_list(content, inner)
                    found += more
                    place = replace(place, scope=place.scope.with_names(variables=deeper.scope.contexts["variables"]))
                continue
            state.reset()
            item = self._mapping(item, place)
            more = (
                self._from_template(item, "variables", place) if "template" in item else [{**item, "file": place.file}]
            )
            more = [{**one, "value": _text(one["value"])} if "value" in one else one for one in more]
            place = place.with_variables({one["name"]: one["value"] for one in more if "name" in one})
            found += more
        return found, place

    def _from_template(self, reference: Mapping[str, Tree], section: str, place: Place) -> list[Any]:
        path = self._files.resolved(_template_name(reference, place), place.file)
        unknown = sorted(set(reference) - {"template", "parameters"})
        if unknown:
            raise PipelineError(f"{place.file}: {', '.join(unknown)} beside the template {path}")
        tree, values = self._opened(path, reference.get("parameters") or {})
        if set(tree) != {section}:
            raise PipelineError(f"{path} is used as a template of {section}, and has {', '.join(tree) or 'nothing'}")
        inner = place.inside(path, place.scope.with_names(parameters=Names(values)))
        if section == "variables":
            return self._variables(tree[section], inner)
        return self._list(tree[section], inner, section)

    def _value(self, tree: Tree, place: Place, section: str = "") -> Value:
        try:
            if isinstance(tree, str):
                return interpolated(tree, place.scope)
        except PipelineError as error:
            raise error if str(error).startswith(place.file) else PipelineError(f"{place.file}: {error}") from error
        if isinstance(tree, Mapping):
            return self._mapping(tree, place)
        if isinstance(tree, list):
            return self._list(tree, place, section)
        return tree

    def _list(self, tree: Tree, place: Place, section: str) -> list[Value]:
        if not isinstance(tree, list):
            value = self._value(tree, place)
            if not is_list(value):
                raise PipelineError(f"{place.file}: {section or 'this'} is not a list: {tree!r}")
            return list(value)
        found: list[Value] = []
        state = _Branches()
        for item in tree:
            key = _only_directive(item)
            if key:
                for content, inner in self._chosen(state, key, item[key], place):
                    found += self._list(content, inner, section)
                continue
            state.reset()
            if isinstance(item, str):
                value = self._value(item, place)
                whole = item.strip().startswith(OPENING) and is_list(value)
                found += value if whole else [value]
            elif isinstance(item, Mapping) and section in SECTIONS and "template" in item:
                found += self._from_template(self._mapping(item, place), section, place)
            elif isinstance(item, Mapping) and section in ("stages", "jobs"):
                found.append(self._level(item, place))
            else:
                found.append(self._value(item, place))
        return found

    def _mapping(self, tree: Mapping[str, Tree], place: Place) -> dict[str, Value]:
        found: dict[str, Value] = {}
        state = _Branches()
        for key, content in tree.items():
            directive = _DIRECTIVE.match(key.strip())
            if directive and directive[1] != "insert":
                parts = self._chosen(state, key, content, place)
            elif directive:
                state.reset()
                parts = [(content, place)]
            else:
                state.reset()
                name = _text(self._value(key, place))
                section = name if name in SECTIONS else ""
                self._put(found, {name: self._value(content, place, section)}, place)
                continue
            for part, inner in parts:
                value = self._value(part, inner)
                if not isinstance(value, Mapping):
                    raise PipelineError(f"{place.file}: {key} does not hold a mapping")
                self._put(found, value, place)
        return found

    def _put(self, found: dict[str, Value], more: Mapping[str, Value], place: Place) -> None:
        for name, value in more.items():
            if name in found:
                raise PipelineError(f"{place.file}: the key {name!r} is already defined")
            found[name] = value

    def _chosen(self, state: _Branches, key: str, content: Tree, place: Place) -> list[tuple[Tree, Place]]:
        """What a directive leaves: its content where its condition holds, or once for each item."""
        directive = _DIRECTIVE.match(key.strip())
        assert directive
        word, rest = directive[1], directive[2]
        try:
            if word == "each":
                state.reset()
                return [
                    (content, replace(place, scope=place.scope.with_names(**names))) for names in _rounds(rest, place)
                ]
            return [(content, place)] if state.takes(word, rest, place.scope) else []
        except PipelineError as error:
            raise error if str(error).startswith(place.file) else PipelineError(f"{place.file}: {error}") from error


class _Branches:
    """Which of the branches of one ``if`` has been taken."""

    def __init__(self) -> None:
        self._taken: bool | None = None

    def reset(self) -> None:
        """Something else came between."""
        self._taken = None

    def takes(self, word: str, condition: str, scope: Scope) -> bool:
        """Whether this branch is the one."""
        if word == "if":
            self._taken = to_bool(scope.evaluate(condition))
            return self._taken
        if self._taken is None:
            raise PipelineError(f"{word} without an if before it")
        if word == "else":
            taken, self._taken = not self._taken, None
            return taken
        taken = not self._taken and to_bool(scope.evaluate(condition))
        self._taken = self._taken or taken
        return taken


def _rounds(rest: str, place: Place) -> list[dict[str, Value]]:
    found = _EACH.match(rest)
    if not found:
        raise PipelineError(f"each is written as: each NAME in LIST, not {rest!r}")
    items = place.scope.evaluate(found[2])
    if isinstance(items, Mapping):
        return [{found[1]: {"key": key, "value": value}} for key, value in items.items()]
    if items is None or items == "":
        return []
    if not is_list(items):
        raise PipelineError(f"each takes a list or an object, not {items!r}")
    return [{found[1]: item} for item in items]


def _only_directive(item: Tree) -> str | None:
    """The directive that a mapping consists of: as an item of a list it stands for items of that list."""
    if isinstance(item, Mapping) and len(item) == 1:
        (key,) = item
        found = _DIRECTIVE.match(key.strip())
        if found and found[1] != "insert":
            return str(key)
    return None


def _template_name(reference: Mapping[str, Tree], place: Place) -> str:
    name = reference.get("template")
    if not isinstance(name, str) or not name:
        raise PipelineError(f"{place.file}: a template without a name")
    return name


def _text(value: Value) -> str:
    return value if isinstance(value, str) else to_text(value)


def _texts(value: Value) -> Any:
    if isinstance(value, Mapping):
        return {name: _texts(item) for name, item in value.items()}
    if is_list(value):
        return [_texts(item) for item in value]
    return _text(value)
