"""Reads a workload file, lays the environment and ``--set a.b=value`` over it, and explains every mistake in it.

An environment variable ``MLOPS_SECTION__KEY`` sets one key: ``MLOPS_TRAINING__EPOCHS=2``. The command line wins over the
environment, and the environment over the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from vision_mlops.config.workload import NAME, NAME_RULE, PATTERNS, Serving, Training, Workload
from vision_mlops.core.errors import ConfigError, in_plain_words, problem_of_file
from vision_mlops.core.text import nearest
from vision_mlops.core.typed_text import accepted, decimal, read_typed
from vision_mlops.core.yaml_text import read_json, read_yaml

_SHIPPED = Path(__file__).parent / "workloads"
_OWN = Path("workloads")
_SUFFIXES = (".yml", ".yaml")
_PREFIX = "MLOPS_"
# PyYAML lets the ValueError of an impossible date or number through.
_BAD_YAML = (yaml.YAMLError, ValueError, RecursionError)
_FORMS = 'a list is written ["a", "b"], a mapping {key: value}'
_SHOW = "see `mlops config show`"


def shipped_workloads() -> list[str]:
    """List the names of the workloads that ship with the package, sorted."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yml"))


def list_workloads() -> list[str]:
    """List the names that :func:`find_workload` takes: the shipped ones, and those in ``workloads/`` here."""
    return sorted({*shipped_workloads(), *own_workloads()})


def own_workloads() -> list[str]:
    """List the names of the workloads in ``workloads/`` of the current folder, sorted."""
    return sorted({path.stem for suffix in _SUFFIXES for path in _OWN.glob(f"*{suffix}")})


def is_shipped(reference: str) -> bool:
    """Return whether a reference means a workload that ships with the package."""
    return reference in shipped_workloads() and _own_file(reference) is None


def own_workload(name: str) -> Path:
    """Return the file of a workload of the user's own: the existing one, else ``workloads/NAME.yml``.

    Raises:
        ConfigError: that cannot be the name of a workload, or there are two files for it.
    """
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{name!r} cannot be the name of a workload",
            f"use {NAME_RULE}",
        )
    return _own_file(name) or _OWN / f"{name}.yml"


def _own_file(name: str) -> Path | None:
    """Find the file of that workload in ``workloads/`` of the current folder; two of them are ambiguous."""
    found = [path for suffix in _SUFFIXES if (path := _OWN / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise ConfigError(
            f"workload {name!r} has two files: {found[0]} and {found[1]}", "remove one, or give the path of the other"
        )
    return found[0] if found else None


def find_workload(reference: str) -> Path:
    """Find a workload given by name or file path. One in ``workloads/`` wins over a shipped one of its name.

    Raises:
        ConfigError: neither exists, and the nearest name is suggested; or there are two files of that name.
    """
    path = Path(reference)
    if path.suffix in _SUFFIXES:
        if not path.is_file():
            raise ConfigError(f"workload file {reference} does not exist", "give the path of a .yml or .yaml file")
        return path
    names = list_workloads()
    if reference not in names:
        raise ConfigError(
            f"unknown workload {reference!r}",
            f"{nearest(reference, names, listed='Known')}. A path to a .yml file works too, and"
            " `mlops new NAME --images DIR` writes one.",
        )
    return _own_file(reference) or _SHIPPED / f"{reference}.yml"


def load_workload(reference: str, overrides: Iterable[str] = ()) -> Workload:
    """Load and check one workload.

    Args:
        reference: Name (``textile``), path of a YAML file, or the workload itself as JSON (``{"name": ...}``).
        overrides: ``dotted.key=value`` strings, the last one wins. They win over the environment. A value is read by the
            type of its key: a text is taken as it stands, and a list or a section is YAML.

    Raises:
        ConfigError: names file, key, and the nearest valid key or the accepted values.
    """
    path, content = _inline(reference) if reference.lstrip().startswith("{") else _read(find_workload(reference))
    environment, overrides = environment_overrides(), list(overrides)
    laid = _lay_over(content, environment)
    for item in overrides:
        _apply(content, item, "--set")
    changes = [*(f"--set {item}" for item in overrides), *laid]
    return _validated(content, f"{path} with {' '.join(changes)}" if changes else path)


def workload_content(workload: Workload) -> str:
    """Return the workload as JSON on one line, which a command may put between single quotes."""
    return json.dumps(workload.model_dump(mode="json"), ensure_ascii=True).replace("'", "\\u0027")


def parse_workload(text: str, source: str) -> Workload:
    """Parse a workload from the text of its file, without the environment.

    Args:
        text: YAML.
        source: What an error calls it.

    Raises:
        ConfigError: as of :func:`load_workload`.
    """
    return _validated(_parsed(text, source), source)


def environment_overrides() -> dict[str, str]:
    """Return what the environment overrides: ``dotted.key=value`` by variable, in the order of the variables.

    Raises:
        ConfigError: a variable names a whole section, the name or the title.
    """
    _refuse_without_key(list(Workload.model_fields))
    return _keys_of_environment()


def _refuse_without_key(fields: Iterable[str]) -> None:
    """Refuse ``MLOPS_TRAINING``, which looks like a setting; the product reads no variable that is called so."""
    for field in fields:
        variable = next((name for name in os.environ if name.lower() == f"{_PREFIX}{field}".lower()), None)
        if variable is None or not variable.startswith(_PREFIX):
            continue
        section = _section(Workload.model_fields[field].annotation)
        if section is None:
            hint = f"unset it; `--set {field}=...` or the file of the workload gives the {field}"
        elif section is Training:
            hint = f"write for example {variable}__EPOCHS=2"
        else:
            hint = f"write {variable}__KEY=value, with a key of the section: {', '.join(section.model_fields)}"
        raise ConfigError(f"the variable {variable} is not read: only {_PREFIX}SECTION__KEY sets a key", hint)


def _keys_of_environment() -> dict[str, str]:
    # Other MLOPS_ variables have no double underscore.
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIX) and "__" in name}
    return {name: f"{name.removeprefix(_PREFIX).lower().replace('__', '.')}={value}" for name, value in found.items()}


def load_serving(workload: str = "") -> Serving:
    """Load the limits of the scoring server: the defaults or those of a workload, under those of the environment.

    Args:
        workload: As of :func:`load_workload`; empty for the defaults.

    Raises:
        ConfigError: the workload does not exist, or a variable MLOPS_SERVING__KEY has a wrong key, no key or a wrong value.
    """
    if workload:
        return load_workload(workload).serving
    content: dict[str, Any] = {"name": "serving"}
    _refuse_without_key(["serving"])
    environment = {name: item for name, item in _keys_of_environment().items() if item.startswith("serving.")}
    return _validated(content, f"the environment: {' '.join(_lay_over(content, environment))}").serving


def _validated(content: dict[str, Any], source: str) -> Workload:
    try:
        return Workload.model_validate(_floats(Workload, content))
    except ValidationError as error:
        raise ConfigError(*_explain(source, error)) from error


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a workload file; returns its name, for messages, and its content."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}", "save the file as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from error
    return str(path), _parsed(text, str(path))


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        content = read_yaml(text)
    except _BAD_YAML as error:
        raise ConfigError(f"{source}: not valid YAML: {problem_of_file(error)}", "fix the file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must be a mapping of keys to values", _SHOW)
    return content


def _inline(text: str) -> tuple[str, dict[str, Any]]:
    """Read a workload that is given as JSON, as a pipeline passes it to its steps."""
    try:
        content = read_json(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"the workload {text[:40]!r}... is not valid JSON: {error}", "quote it for the shell"
        ) from error
    return "the workload given as JSON", content


def _lay_over(content: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Apply the keys of variables, and return the variables as they are set."""
    for variable, item in environment.items():
        _apply(content, item, variable)
    return [f"{variable}={os.environ[variable]}" for variable in environment]


def _apply(content: dict[str, Any], item: str, origin: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{origin} {item!r} is not of the form key=value", "for example --set training.epochs=2")
    path = key.strip().split(".")
    try:
        value = read_typed(text, accepted(Workload, path))
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{origin} {item!r}: the value is {reason}", _FORMS) from error
    *parents, last = path
    node = content
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{origin} {item!r}: {parent!r} holds a value, not a section", _SHOW)
        node = child
    node[last] = value


def _floats(model: type[BaseModel], content: Any) -> Any:
    """Turn ``1`` and ``2e-3`` into floats where a float is wanted: YAML 1.1 reads the first as int, the second as text."""
    if not isinstance(content, Mapping):
        return content
    result: dict[str, Any] = {}
    for key, value in content.items():
        field = model.model_fields.get(str(key))
        kind = field.annotation if field else None
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            value = _floats(kind, value)
        elif kind is float and not isinstance(value, bool) and isinstance(value, int | str):
            with suppress(ValueError, OverflowError):  # left as it is, it is reported with its key by the model
                value = float(decimal(str(value)))
        result[str(key)] = value
    return result


def _explain(source: str, error: ValidationError) -> tuple[str, str]:
    """Return message and hint for the first mistake; the others are only counted."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _keys_beside(first["loc"])
        message = f"{source}: unknown key {key!r}"
        parent = "".join(f"{part}." for part in first["loc"][:-1])
        hint = nearest(str(first["loc"][-1]), valid, listed="Valid keys here", parent=parent)
    else:
        problem, hint = in_plain_words(first, PATTERNS)
        message = f"{source}: {key or 'workload'}: {problem}"
        hint = hint or (f"got {first['input']!r}" if key and not isinstance(first["input"], dict) else _SHOW)
        if first["type"] == "list_type":
            hint = _FORMS
    if len(problems) > 1:
        hint += f" (and {len(problems) - 1} more)"
    return message, hint


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Workload
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        model = (_section(field.annotation) if field is not None else None) or model
    return list(model.model_fields)


def _section(kind: Any) -> type[BaseModel] | None:
    """Return the model that a key holds, also where it is optional or a list of them."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for each in get_args(kind) if (found := _section(each)) is not None), None)
