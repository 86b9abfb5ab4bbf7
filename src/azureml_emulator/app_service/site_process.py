"""What a web app runs: one process that must respond to HTTP, is restarted when it ends, and is checked for its health.

The service waits 230 seconds for a response, and pings the health path once a minute; here both times are shorter.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from azureml_emulator.resources.rest_resources import now

PING = "/robots933456.txt"
"""Path that the service requests to see whether a container responds at all; any status is accepted."""
_HEALTH_SECONDS = 0.5
_HEALTH_FAILURES = 10
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 5.0

State = Literal["starting", "running", "failed"]


@dataclass(frozen=True)
class SiteLaunch:
    """What is started.

    Attributes:
        command: Its words.
        variables: Its whole environment, except for the port.
        folder: Its working folder.
        health_path: Path of the health check; empty for none.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path
    health_path: str = ""


def status_of(port: int, path: str, timeout_s: float = 5.0) -> int:
    """Return the status of a process, without following a redirect; 0 if it does not respond."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()  # otherwise the process would see a broken connection
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0


class SiteProcess:
    """One process of a slot.

    Args:
        launch: What is started.
        log: File that all processes of the slot write to.
        start_seconds: How long it may take until it responds.
        settled: Called once it responds, or once its first start has failed.
    """

    def __init__(
        self, launch: SiteLaunch, log: Path, start_seconds: float, settled: Callable[[SiteProcess], None]
    ) -> None:
        self._launch = launch
        self._log = log
        self._start_seconds = start_seconds
        self._settled = settled
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.state: State = "starting"
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._ending.set()
        self._thread.join(15)

    def _live(self) -> None:
        pause, told = _FIRST_BACK_OFF, False
        try:
            while not self._ending.is_set():
                self._start()
                answers = self._answers()
                if self._ending.is_set():
                    break
                self.state = "running" if answers else "failed"
                if not told:
                    told = True
                    self._settled(self)
                if answers:
                    pause = _FIRST_BACK_OFF
                    self._watch()
                self._end()
                self._ending.wait(pause)
                pause = min(2 * pause, _LONGEST_BACK_OFF)
        finally:
            self._end()

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._launch.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**self._launch.variables, "PORT": str(self.port)}, cwd=self._launch.folder, start_new_session=True,
            )  # fmt: skip

    def _answers(self) -> bool:
        """Return whether it responds before its time is up."""
        assert self._process is not None
        deadline = time.monotonic() + self._start_seconds
        while not self._ending.wait(0.05):
            code = self._process.poll()
            if code is not None:
                self._note(f"Container has exited with code {code}, failing site start")
                return False
            if status_of(self.port, PING):
                self._note("Container is up and running, site started")
                return True
            if time.monotonic() > deadline:
                self._note(f"Container didn't respond to HTTP pings on port {self.port}, failing site start")
                return False
        return False

    def _watch(self) -> None:
        """Return once the process has ended, should end, or was unhealthy for long."""
        assert self._process is not None
        failed, asked = 0, time.monotonic()
        while self._process.poll() is None and not self._ending.wait(0.05):
            if not self._launch.health_path or time.monotonic() - asked < _HEALTH_SECONDS:
                continue
            asked = time.monotonic()
            status = status_of(self.port, self._launch.health_path)
            failed = 0 if 200 <= status < 300 else failed + 1
            if failed >= _HEALTH_FAILURES:
                self._note(f"{self._launch.health_path} answered {status} {failed} times, replacing the instance")
                return
        if not self._ending.is_set():
            self._note(f"Container has ended with code {self._process.poll()}, restarting it")
            self.state = "failed"

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None

    def _note(self, text: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{now()} {text}\n")
