"""The scoring server of one deployment: started, watched, restarted when it has ended, and drained."""

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
_EXIT_SECONDS = 5.0
"""How long a server may take to exit after it has closed its socket."""
_KEYS = ("MLOPS_SCORING_KEY", "MLOPS_ADMIN_KEY")  # for servers that clients reach; only the router reaches this one


class ServerProcess:
    """``mlops serve`` on a free port, in a process group of its own. It ends when this process does.

    Args:
        spec: Deployment that it serves.
        log: File to which its output is appended.
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
        self._stopping = False
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Id of its first process, which leads its group; None while none runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the server. What goes wrong is in ``problem``."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running())

    def retry(self) -> None:
        """Restart a server that runs but cannot become ready; if it waits to be restarted, start it now."""
        if self.ready or not self.problem:
            return
        self.problem, self.deaths = "", -1
        if self._process is None:
            self._again.set()
        else:
            self._process.terminate()

    async def stop(self) -> None:
        """Let the server respond to accepted requests, and end it."""
        self._stopping = True
        if self._task is not None and self._process is not None:
            self._process.terminate()
            done, _ = await asyncio.wait((self._task,), timeout=_DRAIN_SECONDS)
            if not done:
                log_event("server_killed", "warning", deployment=self._spec.name)
        self.kill()

    def kill(self) -> None:
        """Kill what is left of the server."""
        self._stopping = True
        self.port, self.ready = 0, False
        if self._task is not None:
            self._task.cancel()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def _keep_running(self) -> None:
        """Run the server, and run it again whenever it has ended, after a pause that grows."""
        while True:
            self.problem, began = "", time.monotonic()
            problem = await self._run()
            if self._stopping:
                return
            self._process, self.problem = None, problem
            self.deaths = 1 if time.monotonic() - began > _STABLE_SECONDS else self.deaths + 1
            log_event("server_ended", "warning", deployment=self._spec.name, problem=problem, deaths=self.deaths)
            self._changed()
            if not self.restarts:
                return
            pause = BACKOFF_SECONDS[min(self.deaths - 1, len(BACKOFF_SECONDS) - 1)] if self.deaths > 0 else 0.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._again.wait()
            self._again.clear()

    async def _run(self) -> str:
        """Run the server to its end, and return how it has ended. What is left of its group may finish its responses."""
        ours, theirs = ipc_pair()
        with contextlib.closing(ours):
            try:
                process = self._process = self._launch(theirs)
            except OSError as error:
                return f"it cannot be started: {error.strerror}"
            finally:
                theirs.close()
            log_event("server_started", deployment=self._spec.name, model=f"{self._spec.model}:{self._spec.version}")
            await self._hear(ours)
        self.port, self.ready = 0, False
        self._changed()
        if not await _exited(process):
            process.kill()
            await _exited(process)
        code = process.returncode
        return f"it ended with exit code {code}" if code is None or code >= 0 else f"it was killed by signal {-code}"

    def _launch(self, channel: IpcConnection) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vision_mlops", "serve", self._spec.bundle, "--port", "0"]
        command += ["--name", self._spec.model, "--version", self._spec.version, "--parent", str(channel.fileno())]
        command += ["--workers", str(self._spec.workers)] if self._spec.workers else []
        environment = {name: value for name, value in os.environ.items() if name not in _KEYS}
        with self._log.open("ab") as stream:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
                env={**environment, **self._spec.environment}, pass_fds=(channel.fileno(),),
            )  # fmt: skip

    # Its messages

    async def _hear(self, channel: IpcConnection) -> None:
        """Process the messages of the server until its end of the socket is closed."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(channel.fileno(), news.set)
        try:
            while True:
                await news.wait()
                news.clear()
                while (message := channel.receive()) is not None:
                    self._learn(message)
        except EOFError:
            return
        finally:
            loop.remove_reader(channel.fileno())

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


async def _exited(process: subprocess.Popen[bytes]) -> bool:
    """Wait a few seconds for the end of a process, and return whether it has ended."""
    deadline = time.monotonic() + _EXIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return process.returncode is not None
