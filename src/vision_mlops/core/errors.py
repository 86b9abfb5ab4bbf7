"""Errors that a user can fix: each says what is wrong and what to do about it."""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from vision_mlops.core.text import counted, nearest

_REQUIREMENT = re.compile(r"""([\w.-]+).*\bextra == ["'](\w+)["']""")
"""A requirement of an extra in the metadata of the installed package: name and extra."""
_PACKAGES = {"jwt": "pyjwt", "marshmallow": "azure-ai-ml", "msal": "azure-identity", "sklearn": "scikit-learn"}
"""Packages whose name differs from that of their module, or that bring a module of another package."""

_KINDS = {
    "string": ("text", "write text; quote it if YAML reads it as something else"),
    "bool": ("true or false", "write true or false"),
    "int": ("a whole number", "write a whole number"),
    "float": ("a number", "write a number"),
    "finite": ("a finite number", "write a number"),
    "dict": ("a mapping", "write a mapping of keys to values"),
    "model": ("a mapping", "write a mapping of keys to values"),
    "list": ("a list", "write a list"),
    "tuple": ("a list", "write a list"),
}
"""What is wanted, and what to write, by the first word of pydantic's name of the mistake."""
_LIMITS = {
    "greater_than_equal": ("ge", "is below", "write a number of at least"),
    "greater_than": ("gt", "is not above", "write a number above"),
    "less_than_equal": ("le", "is above", "write a number of at most"),
    "less_than": ("lt", "is not below", "write a number below"),
}


class Severity(enum.StrEnum):
    """How bad a finding is, the worst first: an error breaks something, a warning may, a note is worth a look."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def reaches(self, limit: str) -> bool:
        """Return whether it is as bad as a limit or worse; nothing reaches the limit ``never``."""
        order = list(Severity)
        return limit != "never" and order.index(self) <= order.index(Severity(limit))


class MlopsError(Exception):
    """Base of every error that the command line shows as one line and exit code 2.

    Args:
        message: What is wrong, naming the file, key or value.
        hint: How to fix it; shown on a line of its own.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message

    def on_one_line(self) -> str:
        """Return message and hint for places without lines, such as JSON and logs."""
        return f"{self.message}: {self.hint}" if self.hint else self.message


class ConfigError(MlopsError, ValueError):
    """A workload file, an override or an environment variable has a wrong key or value."""


class DataError(MlopsError, ValueError):
    """Images or their folders cannot be used."""


class DownloadError(DataError):
    """Something cannot be downloaded. ``status`` is the HTTP status of the last response, 0 without one."""

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class ImageError(MlopsError, ValueError):
    """One image cannot be decoded. ``reason`` is a short code such as ``truncated``."""

    def __init__(self, message: str, hint: str = "", reason: str = "corrupt") -> None:
        super().__init__(message, hint)
        self.reason = reason


class BundleError(MlopsError, ValueError):
    """A model bundle is incomplete, was changed, or does not reproduce its golden examples."""


class TrainingError(MlopsError, RuntimeError):
    """Training cannot start or its result cannot be exported."""


class RegistryError(MlopsError, LookupError):
    """A model, version or alias is missing, or the registry refuses a change."""


class CorrectionsFullError(DataError):
    """No more corrections of images are accepted: their storage has reached its limit."""


class ServingError(MlopsError, RuntimeError):
    """The scoring server cannot start or does not respond."""


class DeploymentError(MlopsError, RuntimeError):
    """An endpoint or deployment is missing, cannot be created or changed, or did not become ready."""


class PipelineError(MlopsError, ValueError):
    """A definition cannot be read, or would not run as intended."""


class JobError(MlopsError, RuntimeError):
    """A job does not exist, is already running, or cannot continue."""


class AzureError(MlopsError, RuntimeError):
    """Azure refuses a request, cannot be reached, or lacks what was asked for. ``status`` is the HTTP status, else 0."""

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class MissingExtraError(MlopsError, ImportError):
    """A command needs a package that is not installed: of an extra, or, where ``extra`` is empty, of none."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this command needs the package {package!r}, which is not installed",
            f"pip install 'vision-mlops[{extra}]'" if extra else f"pip install {package}",
        )


def missing_extra(module: str) -> MissingExtraError | None:
    """Return the error for a module that is not installed, with the extra that brings it; None if no extra does."""
    from importlib.metadata import PackageNotFoundError, requires

    words = module.replace("_", "-").lower().split(".")
    if words[0] == "vision-mlops":  # which the extras name, too
        return None
    try:
        declared = requires("vision-mlops") or []
    except PackageNotFoundError:  # the source, which is not installed
        return None
    extras: dict[str, str] = {}
    for match in filter(None, map(_REQUIREMENT.match, declared)):
        extras.setdefault(match[1].replace("_", "-").lower(), match[2])
    for length in range(len(words), 0, -1):
        name = "-".join(words[:length])
        exact = [package for package in (_PACKAGES.get(name, name), f"python-{name}") if package in extras]
        longer = [package for package in extras if package.startswith(f"{name}-")]
        for package in exact + longer:
            return MissingExtraError(package, extras[package])
    return None


def require(*modules: str) -> None:
    """Raise MissingExtraError if one of these top-level modules is not installed.

    The command line reports any missing module of an extra like this. Call this where the error must not get that far: a
    step, a check or a worker fails with it, and the rest goes on.
    """
    for module in modules:
        if (sys.modules[module] if module in sys.modules else find_spec(module)) is None:
            raise missing_extra(module) or MissingExtraError(module, "")


def problem_of_file(error: Exception) -> str:
    """Say on one line what is wrong with the content of a file, with the name of the field if there is one."""
    from pydantic import ValidationError
    from yaml import MarkedYAMLError

    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark) is not None:
        return f"line {mark.line + 1}: {error.problem}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), in_plain_words(first)[0])))
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return " ".join(str(error).split())


def in_plain_words(mistake: Mapping[str, Any], patterns: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Say what is wrong with a value and what to write instead, which may be empty.

    Args:
        mistake: One of ``ValidationError.errors()``. The value is not named if it was left out, as a secret is.
        patterns: What a pattern of a field asks for, in words.
    """
    kind, context = str(mistake["type"]), mistake.get("ctx", {})
    given = _shown(mistake)
    if kind == "value_error":
        problem, _, fix = str(context["error"]).partition("\n")
        return problem, fix
    if kind == "missing":
        return "the key is missing", "add it"
    if kind == "extra_forbidden":
        return "the key is unknown", "remove it"
    if kind == "string_pattern_mismatch":
        if rule := (patterns or {}).get(context["pattern"]):
            return f"{given} is not valid", f"use {rule}"
        return f"{given} does not match the pattern {context['pattern']}", "write text that matches the pattern"
    if kind == "int_parsing_size":
        return f"{given} is too large", "write a smaller number"
    if kind in _LIMITS:
        key, problem, fix = _LIMITS[kind]
        limit = context[key]
        limit = int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        return f"{mistake.get('input', given)} {problem} {limit}", f"{fix} {limit}"
    if kind in ("too_short", "string_too_short"):
        least, value = context["min_length"], mistake.get("input")
        what = "text" if kind == "string_too_short" else "mapping" if isinstance(value, dict) else "list"
        size = "too short" if value else "empty"
        unit = counted(least, "character" if what == "text" else "entry")
        return f"the {what} is {size}", f"write at least {unit}"
    if kind == "literal_error":
        options = [part.strip().strip("'") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        return f"{given} is not valid", nearest(str(mistake.get("input", "")), options)
    if (wanted := _KINDS.get(kind.partition("_")[0])) and kind.endswith(
        ("_type", "_parsing", "_number", "_from_float")
    ):
        quoted = kind in ("int_type", "float_type") and given.strip("'").isdecimal() and given[0] == "'"
        return f"{given} is {'text, not' if quoted else 'not'} {wanted[0]}", wanted[1]
    return f"{mistake['msg'][:1].lower()}{mistake['msg'][1:]}", ""


def _shown(mistake: Mapping[str, Any]) -> str:
    if "input" not in mistake:
        return "the value"
    value = mistake["input"]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "null" if value is None else repr(value)[:60]
