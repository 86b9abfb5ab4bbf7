"""A scoring server as users run it: the command in a process of its own, and what tests ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PNG = {"Content-Type": "image/png"}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class RunningServer:
    """A server process and where it answers."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self, method: str = "GET", path: str = "/health/ready", body: Any = None, timeout: float = 20, **headers: str
    ) -> Answer:
        """One request on a connection of its own; underscores in the names of headers stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def score(self, image: bytes, query: str = "", **headers: str) -> Answer:
        return self.ask("POST", f"/score{query}", image, **_typed(headers))

    def connect(self, timeout: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def workers(self) -> list[int]:
        return sorted(_children(self.process.pid))

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        lines = self.ask(path="/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def wait(self, seconds: float, until: Callable[[], object]) -> None:
        """Wait until something is so; a connection that breaks, as a dying worker's does, is not so."""

        def reached() -> bool:
            with contextlib.suppress(OSError):
                return bool(until())
            return False

        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; the log ends with\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


def _typed(headers: dict[str, str]) -> dict[str, Any]:
    return {"Content_Type": "image/png", **headers}


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def serving(
    bundle: Path, *options: str, ready: bool = True, stderr: IO[bytes] | int | None = None, **variables: str
) -> Iterator[RunningServer]:
    """Run ``mlops serve`` on a free port; by default with two workers, and until it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        log, port_file = Path(folder, "log"), Path(folder, "port")
        command = [sys.executable, "-m", "vision_mlops", "serve", str(bundle), "--port", "0"]
        command += ["--port-file", str(port_file), *(options or ("--workers", "2"))]
        log.touch()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream if stderr is None else stderr,
                env={**os.environ, **variables}, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while not port_file.is_file() or not port_file.read_text().strip():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.01)
            server = RunningServer(process, int(port_file.read_text()), log)
            if ready:
                server.wait(30, lambda: "serving" in log.read_text())
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class Load:
    """Clients that send one image after the other, each over a connection that it keeps, until told to stop."""

    server: RunningServer
    image: bytes
    clients: int = 4
    headers: dict[str, str] = field(default_factory=dict)
    patient: bool = False  # a refused connection is tried again, however often
    gap: float = 0.0  # longest time in seconds without an answer of 200
    statuses: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        last = time.monotonic()
        while not self._ending.is_set():
            try:
                connection.request("POST", "/score", self.image, {**PNG, **self.headers})
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, ConnectionRefusedError) and self.patient:
                    connection.close()
                    time.sleep(0.02)
                    continue
                if isinstance(error, ConnectionRefusedError) and self.server.process.poll() is not None:
                    return
                self.errors.append(repr(error))
                connection.close()
                if len(self.errors) > 100:
                    return
                continue
            self.statuses[response.status] += 1
            if response.status == 200:
                self.gap, last = max(self.gap, time.monotonic() - last), time.monotonic()
                self.models[answer["model"]["id"]] += 1
        connection.close()


@contextlib.contextmanager
def in_process(bundle: Path, **options: Any) -> Iterator[str]:
    """An app of this process on a thread's event loop; yields the address once the app is ready or has a problem."""
    from vision_mlops.serving.scoring_app import ScoringApp
    from vision_mlops.serving.served_model import ModelSource

    address: queue.Queue[str] = queue.Queue()
    ending: list[Any] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        version, serving = options.pop("version", ""), options.pop("serving", None)
        source = ModelSource(bundle, version=version, precision=options.pop("precision", "auto"))
        app = ScoringApp(source, serving=serving, **options)
        listener = await loop.create_server(app.hub, "127.0.0.1", 0)
        stop = asyncio.Event()
        ending.append(lambda: loop.call_soon_threadsafe(stop.set))
        await app.start()
        address.put(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        await stop.wait()
        for connection in list(app.hub.connections):
            connection.transport.abort()
        app.close()
        listener.close()
        await listener.wait_closed()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield address.get(timeout=30)
    finally:
        ending[0]()
        thread.join(60)
