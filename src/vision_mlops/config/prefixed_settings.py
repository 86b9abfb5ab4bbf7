"""Settings of one service, whose variables begin alike: read from the environment or ``.env``, and checked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vision_mlops.config.accepted_values import accepted
from vision_mlops.config.azure_settings import read_env_file
from vision_mlops.core.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_prefixed(
    kind: type[SettingsT], prefix: str, env_file: Path | None, environ: Mapping[str, str] | None
) -> SettingsT:
    """Read and check all settings of a model; an empty value counts as none.

    Args:
        kind: The model; the alias of a field is the variable that holds it.
        prefix: What its variables begin with: others that begin so are unknown settings.
        env_file: File of ``NAME=value`` lines; ``.env`` in the current folder where not given. It may be missing.
        environ: The environment, which wins over the file; that of the process where not given.

    Raises:
        ConfigError: a value is malformed or missing, or the name of a setting is unknown. No secret is shown.
        MissingExtraError: there is an ``.env``, and python-dotenv is not installed.
    """
    variables = {str(field.alias): name for name, field in kind.model_fields.items()}
    values: dict[str, str] = {}
    for layer in (read_env_file(env_file or Path(".env")), os.environ if environ is None else environ):
        for name, value in layer.items():
            if name.startswith(prefix) and name not in variables:
                near = difflib.get_close_matches(name, variables, n=1, cutoff=0.0)[0]
                raise ConfigError(f"unknown setting {name}", f"did you mean {near}?")
            if name in variables and value.strip():
                values[name] = value.strip()
    try:
        return kind.model_validate_strings(values)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        first = mistakes[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # several settings do not go together
            raise ConfigError(*message.split("; ", 1)) from error
        name = str(first["loc"][0])
        field = kind.model_fields[variables[name]]
        if first["type"] == "missing":
            missing = [str(mistake["loc"][0]) for mistake in mistakes if mistake["type"] == "missing"]
            verb = "is" if len(missing) == 1 else "are"
            raise ConfigError(f"{', '.join(missing)} {verb} not set", f"{name} is {field.description}") from error
        shown = "" if "SecretStr" in str(field.annotation) else f"={values[name]!r}"
        raise ConfigError(f"{name}{shown} is not valid", accepted(field, values[name], first["msg"])) from error
