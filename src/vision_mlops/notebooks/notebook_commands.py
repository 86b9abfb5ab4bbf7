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

_SETTINGS = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "140"}
_IN_THE_WAY = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
"""Variables by which a kernel asks for colours, which are noise in a notebook that is read as text."""


class FailedCommandError(MlopsError):
    """A command ended with an exit code other than 0; its output is above."""


def run_command(*words: str | Path) -> None:
    """Run a command; ``run_command("data", "check", folder)`` is `mlops data check FOLDER`.

    Raises:
        FailedCommandError: its exit code is not 0.
    """
    with _start(words, subprocess.STDOUT) as process:
        assert process.stdout is not None
        _follow(process, process.stdout)
    _check(process, words)


def read_command(*words: str | Path) -> Any:
    """Run a command with ``--json``, show its messages, and return what it says.

    Raises:
        FailedCommandError: its exit code is not 0.
    """
    answer: list[str] = []
    with _start((*words, "--json"), subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # In a thread of its own: otherwise a long answer would fill the pipe and stop the command.
        reader = threading.Thread(target=answer.extend, args=(process.stdout,), daemon=True)
        reader.start()
        _follow(process, process.stderr)
        reader.join()
    _check(process, words)
    return json.loads("".join(answer))


def _start(words: Iterable[str | Path], errors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env={name: value for name, value in os.environ.items() if name not in _IN_THE_WAY} | _SETTINGS,
    )


def _follow(process: subprocess.Popen[str], lines: Iterable[str]) -> None:
    """Show lines until the command ends.

    An interruption of the cell reaches the command as well: it ends in its own way, and its last lines say how to go on. A
    second one kills it.
    """
    try:
        _show(lines)
    except KeyboardInterrupt:
        try:
            _show(lines)
        except BaseException:
            process.kill()
            raise
        raise


def _show(lines: Iterable[str]) -> None:
    """Print them with paths relative to the project, as somebody at a terminal would write them."""
    below = f"{Path.cwd()}{os.sep}"
    for line in lines:
        print(line.replace(below, ""), end="")  # noqa: T201


def _check(process: subprocess.Popen[str], words: tuple[str | Path, ...]) -> None:
    if process.returncode:
        command = " ".join(["mlops", *map(str, words[:2])])
        raise FailedCommandError(f"`{command}` ended with exit code {process.returncode}", "see its last lines above")
