"""Talking to the router of an endpoint on this machine, and starting it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.locks import is_taken, take
from vision_mlops.endpoints.local.router.endpoint_state import CHANGE_LOCK, LOCK, LOG, read_key, read_pid, read_state

ANY_PORT = -1
"""The first free one from 8000 on."""
_ANSWER_SECONDS = 10.0
_END_SECONDS = 100.0
_PAUSE_SECONDS = 0.03
_children: list[subprocess.Popen[bytes]] = []  # routers outlive the command; those that end before it are reaped


def is_running(folder: Path) -> bool:
    """Whether an endpoint's router runs."""
    _children[:] = [child for child in _children if child.poll() is None]
    return is_taken(folder / LOCK)


def start(folder: Path, port: int = ANY_PORT) -> int:
    """Start the router of a folder, in a session of its own, and return the port that it listens on.

    Raises:
        DeploymentError: it cannot be started, or its port is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    with os.fdopen(reading) as report:
        command = [sys.executable, "-m", "vision_mlops.endpoints.local.router", str(folder), str(port), str(writing)]
        try:
            with (folder / LOG).open("ab") as log:
                _children.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        pass_fds=(writing,),
                    )
                )  # fmt: skip
        except OSError as error:
            raise DeploymentError(f"the router cannot be started: {error.strerror}", "try again") from error
        finally:
            os.close(writing)
        content = report.read()  # until the router closes it, or has ended
    told = json.loads(content) if content else {"problem": "the router ended at once", "hint": f"see {folder / LOG}"}
    if told.get("running"):
        state = read_state(folder)
        if state is not None:
            return state.port
        told = {"problem": "another command is making this endpoint", "hint": "try again when it has ended"}
    if "problem" in told:
        raise DeploymentError(told["problem"], told["hint"])
    return int(told["port"])


def ask(folder: Path, port: int, action: str, **fields: Any) -> dict[str, Any]:
    """Have the router do something.

    Raises:
        DeploymentError: it refuses, or does not answer.
    """
    headers = {"X-Api-Key": read_key(folder), "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("POST", f"/admin/{action}", json.dumps(fields), headers)
            response = connection.getresponse()
            content = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeploymentError(
                f"the router of endpoint {folder.name!r} does not answer: {error}", f"see {folder / LOG}"
            ) from error
    if response.status != 200:
        raise DeploymentError(f"endpoint {folder.name!r}: {content['error']['message']}", f"see {folder / LOG}")
    return dict(content)


def end(folder: Path, port: int | None) -> None:
    """Have the router and its servers end, after they have answered what has come. Kill it where it does not hear."""
    if not is_running(folder):
        return
    if port is not None:
        with contextlib.suppress(DeploymentError):
            ask(folder, port, "shutdown")
            if wait(lambda: not is_running(folder), _END_SECONDS):
                return
    pid = read_pid(folder)
    if pid is not None and is_running(folder):  # the lock is the proof that it is this process
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not wait(lambda: not is_running(folder), 5.0):
        raise DeploymentError(f"the router of endpoint {folder.name!r} cannot be ended", f"end process {pid}")


def hold(folder: Path, say: Callable[[str], None], seconds: float) -> TextIO:
    """The lock under which one command at a time makes or deletes things of an endpoint; close it to let go.

    Raises:
        DeploymentError: another command has it for longer than that.
    """
    path = folder / CHANGE_LOCK
    lock = take(path)
    if lock is None:
        say(f"waiting for another command that changes endpoint {folder.name!r}")
        lock = take(path, wait=seconds)
    if lock is None:
        raise DeploymentError(f"another command is changing endpoint {folder.name!r}", "try again when it has ended")
    return lock


def wait(until: Callable[[], object], seconds: float) -> bool:
    """Whether something became so in time."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
