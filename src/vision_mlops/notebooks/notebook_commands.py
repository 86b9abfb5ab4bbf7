"""Commands of ``mlops`` in a notebook: what they print appears in the cell as they print it, and a failure ends the cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import MlopsError

_SETTINGS = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "110"}
_END_SECONDS = 60.0


class FailedCommandError(MlopsError):
    """A command ended with an exit code other than 0; what it printed stands above."""


def run_command(*words: str | Path) -> None:
    """Run a command; ``run_command("data", "check", folder)`` is `mlops data check FOLDER`.

    Raises:
        FailedCommandError: its exit code is not 0.
    """
    process = _start(words, subprocess.STDOUT)
    assert process.stdout is not None
    _follow(process, words, process.stdout)


def read_command(*words: str | Path) -> Any:
    """Run a command with ``--json``, show its messages, and return what it says.

    Raises:
        FailedCommandError: its exit code is not 0.
    """
    process = _start((*words, "--json"), subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    answer: list[str] = []
    # Beside the messages, or a long answer would fill the pipe and stop the command.
    reader = threading.Thread(target=answer.extend, args=(process.stdout,), daemon=True)
    reader.start()
    _follow(process, words, process.stderr)
    reader.join()
    return json.loads("".join(answer))


def _start(words: Iterable[str | Path], errors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **_SETTINGS},
    )


def _follow(process: subprocess.Popen[str], words: tuple[str | Path, ...], lines: Iterable[str]) -> None:
    """Show lines until the command ends. An interruption of the cell reaches the command as well, which ends in its way."""
    below = f"{Path.cwd()}{os.sep}"
    try:
        for line in lines:
            # Relative to the project, as somebody at a terminal would write it.
            print(line.replace(below, ""), end="")  # noqa: T201
        code = process.wait()
    except BaseException:
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if code:
        command = " ".join(["mlops", *map(str, words[:2])])
        raise FailedCommandError(f"`{command}` ended with exit code {code}", "its last lines above say why")
