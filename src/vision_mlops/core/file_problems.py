"""Why a file cannot be used, on one line, for an error that names the file."""

from __future__ import annotations

from pydantic import ValidationError


def problem_of_file(error: Exception) -> str:
    """What is wrong with the content of a file, on one line, with the name of the field where there is one."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return " ".join(str(error).split())
