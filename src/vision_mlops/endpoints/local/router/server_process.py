"""The scoring server of one deployment: started, watched, restarted after it has ended, and drained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vision_mlops.endpoints.local.router.endpoint_state import DeploymentSpec
from vision_mlops.serving.telemetry.server_log import log_event
from vision_mlops.serving.workers.ipc import IpcConnection, Message, ipc_pair

BACKOFF_SECONDS = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before a server that has ended is started again, by the number of ends in a row."""
_STABLE_SECONDS = 20.0
_DRAIN_SECONDS = 40.0
"""Longer than the server itself takes: then it is killed."""
_KEYS = ("MLOPS_SCORING_KEY", "MLOPS_ADMIN_KEY")  # for servers that clients reach; only the router reaches this one


class ServerProcess:
    """``mlops serve`` on a free port, in a process group of its own. It ends when this process does.

    Args:
        spec: What it serves.
        log: File that its output is added to.
        changed: Called whenever one of the attributes has changed.
    """

    def __init__(self, spec: DeploymentSpec, log: Path, changed: Callable[[], None]) -> None:
        self.port = 0
        """Port that it listens on; 0 before it does, and after it has ended."""
        self.ready = False
        self.problem = ""
        """Reason why it is not ready and will not become so by itself, or why it ended last."""
        self.max_body = 0
        self.request_timeout_s = 0.0
        self.cors_origins: tuple[str, ...] = ()
        self.deaths = 0
        """How often it has ended in a row."""
        self.restarts = False
        """Whether it is restarted after it has ended."""
        self._spec = spec
        self._log = log
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: IpcConnection | None = None
        self._born = 0.0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Id of its first process, which leads its group; None while none runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the server. What goes wrong is in ``problem``."""
        self.problem = ""
        ours, theirs = ipc_pair()
        with contextlib.closing(theirs):
            command = [sys.executable, "-m", "vision_mlops", "serve", self._spec.bundle, "--port", "0"]
            command += ["--name", self._spec.model, "--version", self._spec.version]
            command += ["--parent", str(theirs.fileno())]
            command += ["--workers", str(self._spec.workers)] if self._spec.workers else []
            environment = {name: value for name, value in os.environ.items() if name not in _KEYS}
            try:
                with self._log.open("ab") as stream:
                    self._process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
                        env={**environment, **self._spec.environment}, pass_fds=(theirs.fileno(),),
                    )  # fmt: skip
            except OSError as error:
                ours.close()
                self._died(f"it cannot be started: {error.strerror}")
                return
        self._channel, self._born = ours, time.monotonic()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear, ours)
        log_event("server_started", deployment=self._spec.name, model=f"{self._spec.model}:{self._spec.version}")

    def retry(self) -> None:
        """Restart a server that is alive but cannot become ready; start one that is waiting for its restart at once."""
        if self.ready or not self.problem:
            return
        self.problem, self.deaths = "", -1
        if self._process is None:
            self.start()
        else:
            self._signal(signal.SIGTERM)

    async def stop(self) -> None:
        """Let the server finish what it has accepted, and end it."""
        self._stopping = True
        if self._task is not None:
            await self._task
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        if not await self._wait(process, _DRAIN_SECONDS):
            log_event("server_killed", "warning", deployment=self._spec.name)
        self._let_go()

    def kill(self) -> None:
        """Kill the server."""
        self._stopping = True
        self._let_go()

    # Its news

    def _hear(self, channel: IpcConnection) -> None:
        try:
            while (message := channel.receive()) is not None:
                self._learn(message)
        except EOFError:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            if not self._stopping:
                self._task = asyncio.get_running_loop().create_task(self._bury())

    def _learn(self, message: Message) -> None:
        news = message.fields
        if message.kind == "bound":
            self.port, self.cors_origins = news["port"], tuple(news["cors_origins"])
            self.max_body, self.request_timeout_s = news["max_body"], float(news["request_timeout_s"])
        elif message.kind == "ready":
            self.problem = news["problem"]
            self.ready = not self.problem
            log_event("server_ready" if self.ready else "server_refused", deployment=self._spec.name,
                      port=self.port, problem=self.problem)  # fmt: skip
        self._changed()

    async def _bury(self) -> None:
        """Clean up after a server whose socket has closed. What is left of its group may finish its responses."""
        process = self._process
        self.port, self.ready = 0, False
        self._changed()
        if process is None:
            return
        ended = await self._wait(process, 5.0)
        if not ended:
            self._signal(signal.SIGKILL)
            await self._wait(process, 5.0)
        code = process.returncode
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None
        self._died(
            f"it ended with exit code {code}" if code is None or code >= 0 else f"it was killed by signal {-code}"
        )

    def _died(self, problem: str) -> None:
        self.port, self.ready, self.problem = 0, False, problem
        self.deaths = 1 if time.monotonic() - self._born > _STABLE_SECONDS else self.deaths + 1
        log_event("server_ended", "warning", deployment=self._spec.name, problem=problem, deaths=self.deaths)
        self._changed()
        if self.restarts and not self._stopping:
            pause = BACKOFF_SECONDS[min(self.deaths - 1, len(BACKOFF_SECONDS) - 1)] if self.deaths > 0 else 0.0
            asyncio.get_running_loop().call_later(pause, self._start_again)

    def _start_again(self) -> None:
        if not self._stopping and self._process is None:
            self.start()

    async def _wait(self, process: subprocess.Popen[bytes], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while process.poll() is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def _let_go(self) -> None:
        """Kill what is left of the server."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        self.port, self.ready = 0, False
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            channel.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
