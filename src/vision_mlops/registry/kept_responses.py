"""Keeps the latest responses of MLflow's registry in a file for as long as nobody writes to its database.

Importing MLflow takes longer than most commands that ask it for a version. SQLite counts the transactions that have
changed a database in its header, whoever made them, so a kept response is either exact or not used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision_mlops.core import paths
from vision_mlops.core.files import atomic_write
from vision_mlops.tracking import mlflow_runs

_FILE = ".registry.json"  # no model can have this name
_HEADER = 100
_ROLLBACK_JOURNAL = b"\1\1"
_BESIDE = ("-journal", "-wal")


def kept(question: str, ask: Callable[[], Any]) -> Any:
    """Return the response to a question, from the file if the database has not changed since.

    Args:
        question: Names what is asked.
        ask: Gets it from the database. What it returns must survive JSON.
    """
    state = _state()
    if state is None:
        return ask()
    responses = _read(state)
    if question not in responses:
        responses[question] = ask()
        if _state() == state:  # nobody has written in the meantime
            with contextlib.suppress(OSError):  # a folder that may only be read: the next command asks again
                atomic_write(_path(), json.dumps({"state": state, "responses": responses}))
    return responses[question]


def _path() -> Path:
    return paths.home() / "models" / _FILE


def _read(state: list[Any]) -> dict[str, Any]:
    try:
        content = json.loads(_path().read_text(encoding="utf-8"))
        return dict(content["responses"]) if content["state"] == state else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _state() -> list[Any] | None:
    """Return what is different after each change of the database; None if that cannot be told.

    It cannot if the store is not an SQLite file, if it keeps a write-ahead log (whose changes the header does not count), or
    if a journal shows that a transaction has not ended.
    """
    file = mlflow_runs.database_file()
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            header, found = stream.read(_HEADER), file.stat()
    except OSError:
        return None
    if header[18:20] != _ROLLBACK_JOURNAL or any(file.with_name(f"{file.name}{end}").exists() for end in _BESIDE):
        return None
    return [str(file), found.st_ino, found.st_size, found.st_mtime_ns, header[24:28].hex(), header[92:100].hex()]
