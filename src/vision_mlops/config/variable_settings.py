"""Settings that are variables of the environment or of ``.env``: how they are declared, read and checked.

Argument > environment > ``.env`` in the current folder > default; an empty value counts as not set.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from vision_mlops.core.errors import ConfigError, in_plain_words, require
from vision_mlops.core.text import closest, nearest


class VariableSettings(BaseModel):
    """Settings whose variables share a prefix: the alias of a field is its variable, PREFIX and its name by default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)
    prefix: ClassVar[str]

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return the field of each variable."""
        return {str(field.alias): name for name, field in cls.model_fields.items()}

    @classmethod
    def fix_for_missing(cls, variable: str) -> str:
        """Say what to do where a required variable is not set."""
        return f"{variable} is {cls.model_fields[cls.variables()[variable]].description}"

    @classmethod
    def load(
        cls, *, env_file: Path | None = None, environ: Mapping[str, str] | None = None, **arguments: str | int | None
    ) -> Self:
        """Read and check all settings.

        Args:
            env_file: File of ``NAME=value`` lines; ``.env`` in the current folder by default. It may be missing.
            environ: The environment; that of the process by default.
            arguments: Values by field, which win over everything else; None counts as not given.

        Raises:
            ConfigError: names every variable that is missing, unknown or malformed, with what is accepted. No secret is
                shown.
            MissingExtraError: there is an ``.env``, and python-dotenv is not installed.
        """
        file, variables = env_file or Path(".env"), cls.variables()
        environ = os.environ if environ is None else environ
        values: dict[str, str] = {}
        origins: dict[str, str] = {}
        names: set[str] = set()
        for origin, layer in ((str(file), read_env_file(file)), ("environment", environ)):
            for name, value in layer.items():
                names.add(name)
                if name.startswith(cls.prefix) and "__" not in name and name not in variables:
                    raise ConfigError(f"unknown setting {name} ({origin})", _nearest(name, variables))
                if name in variables and value.strip():
                    values[name], origins[name] = value.strip(), origin
        fields = {field: variable for variable, field in variables.items()}
        for field, given in arguments.items():
            if field not in fields:
                raise ConfigError(f"unknown setting {field!r}", _nearest(field, fields))
            if given is not None:
                values[fields[field]], origins[fields[field]] = str(given), "argument"
        try:
            return cls.model_validate_strings(values)
        except ValidationError as error:
            raise ConfigError(*cls._explain(error, values, origins, names)) from error

    @classmethod
    def _explain(
        cls, error: ValidationError, values: Mapping[str, str], origins: Mapping[str, str], names: set[str]
    ) -> tuple[str, str]:
        """Return message and hint for all mistakes, the missing settings first."""
        missing: list[str] = []
        wrong: list[str] = []
        fixes: list[str] = []
        items = error.errors(include_url=False, include_input=False)
        for item in items:
            name = str(item["loc"][0]) if item["loc"] else ""
            text, advice = in_plain_words(item)
            if item["type"] == "missing":
                missing.append(name)
                near = closest(name, names - set(cls.variables()), cutoff=0.85)
                fixes += [f"is {near[0]} meant to be {name}?"] if near else []
            elif not name:  # several settings do not go together
                text, _, fix = text.partition("; ")
                wrong.append(text)
                fixes += [fix] if fix else []
            else:
                field = cls.model_fields[cls.variables()[name]]
                shown = name if "SecretStr" in str(field.annotation) else f"{name}={values[name]!r}"
                wrong.append(f"{shown} ({origins[name]}) is not valid")
                fix = _accepted(field, values[name], item["type"], advice or text)
                fixes.append(f"{name}: {fix}" if len(items) > 1 else fix)
        if missing:
            wrong.insert(0, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
            fixes.append(cls.fix_for_missing(missing[0]))
        told = " ".join(fix if fix.endswith("?") else f"{fix};" for fix in fixes).removesuffix(";")
        return "; ".join(wrong), told or "change one of them"


def example_of(field: FieldInfo) -> str:
    """Return a value that a setting accepts."""
    return str(field.examples[0] if field.examples else field.default)


def read_setting(variable: str, *, env_file: Path | None = None) -> str:
    """Read one variable of the environment or ``.env`` where the others are not needed; empty if it is not set.

    Raises:
        ConfigError, MissingExtraError: as :meth:`VariableSettings.load` does for the file.
    """
    return os.environ.get(variable, "").strip() or read_env_file(env_file or Path(".env")).get(variable, "").strip()


def read_env_file(file: Path) -> dict[str, str]:
    """Read the ``NAME=value`` lines of a file, which may be missing. Raises ConfigError or MissingExtraError."""
    if not file.exists():
        return {}
    require("dotenv")
    from dotenv.parser import parse_stream

    try:
        with file.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}", "make it a text file in UTF-8 of NAME=value lines"
        ) from error
    for binding in bindings:
        if binding.error:
            raise ConfigError(f"{file}:{binding.original.line}: not of the form NAME=value", "fix or remove this line")
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _accepted(field: FieldInfo, value: str, mistake: str, reason: str) -> str:
    """Say what to write in place of a value, or what pydantic says if the field does not say more."""
    if mistake == "value_error":
        return reason
    if get_origin(field.annotation) is Literal:
        return nearest(value, get_args(field.annotation))
    limits: dict[str, Any] = {
        name: getattr(limit, name) for name in ("ge", "le") for limit in field.metadata if hasattr(limit, name)
    }
    if field.annotation is int and len(limits) == 2:
        return f"give a whole number from {limits['ge']} to {limits['le']}"
    return f"write it like {example_of(field)}" if field.examples or mistake == "string_pattern_mismatch" else reason


def _nearest(name: str, valid: Iterable[str]) -> str:
    near = closest(name, valid)
    return f"did you mean {near[0]}?" if near else ".env.example lists all settings"
