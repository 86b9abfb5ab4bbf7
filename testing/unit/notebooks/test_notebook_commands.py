"""Commands in a notebook: what they print, what they return, how they fail and how they are interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vision_mlops.notebooks import load_ipython_extension, notebook_commands
from vision_mlops.notebooks.notebook_commands import FailedCommandError, read_command, run_command


def test_a_command_shows_what_it_says_and_returns_json(capfd: pytest.CaptureFixture[str]) -> None:
    run_command("config", "check", "--workload", "textile")
    assert "textile" in capfd.readouterr().out
    assert read_command("config", "show", "--workload", "textile")["name"] == "textile"
    assert capfd.readouterr().out == "", "the answer was shown as well"


def test_the_magic_ends_the_cell_where_the_command_fails(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a kernel sets it
    magics: dict[str, Any] = {}
    shell = SimpleNamespace(
        register_magic_function=lambda function, kind, name: magics.update({name: function}),
        var_expand=lambda word: word.replace("{folder}", f"{tmp_path}/no such"),
    )
    load_ipython_extension(shell)
    with pytest.raises(FailedCommandError, match=r"`mlops data show` ended with exit code 2"):
        magics["mlops"]("data show {folder}")
    said = capfd.readouterr().out
    assert "no such" in said
    assert "\x1b" not in said
    assert str(tmp_path) not in said, "paths of the project are relative"


def test_an_interrupted_cell_waits_for_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches both; the command ends in its way, and nothing of it is left."""
    started: list[Any] = []
    plain = notebook_commands._start

    def start(*given: Any) -> Any:
        started.append(plain(*given))
        return started[-1]

    monkeypatch.setattr(notebook_commands, "_start", start)

    def interrupt() -> None:
        while not started:
            time.sleep(0.01)
        time.sleep(0.5)
        started[0].send_signal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_command("azure", "emulate", "--state", tmp_path / "state", "--port", "0")
    assert started[0].poll() is not None
