"""A worker process: one event loop that serves the connections which the supervisor hands over.

uvicorn speaks HTTP; what it leaves open is added here: limits on slow and endless heads, the end of requests whose client
has gone, a drain that loses nothing, and the talk with the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vision_mlops.config.models import Serving
from vision_mlops.deployment.channel import Channel, Message
from vision_mlops.deployment.logs import start_log, stop_log
from vision_mlops.deployment.models import ModelSource, ServedModel
from vision_mlops.deployment.requests import RequestError
from vision_mlops.deployment.server import ScoringApp
from vision_mlops.exceptions import MlopsError

_LOG = logging.getLogger(__name__)
_HEAD_BYTES = 64 * 1024
_LINGER_SECONDS = 10.0
_QUIET_SECONDS = 1.0
"""While draining, a connection on which nothing came for so long is taken for idle and closed."""
_HUNG_SECONDS = 120.0
_RELOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know. ``generation`` counts the models that the server has been told to serve."""

    source: ModelSource
    serving: Serving
    key: str | None = None
    admin_key: str | None = None
    generation: int = 0


class _Whole:
    """A transport that holds the head of an answer back until its body comes: one system call, one packet."""

    __slots__ = ("_held", "_transport", "write_now")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._held = b""
        self.write_now = transport.write

    def write(self, data: bytes) -> None:
        """Write, or hold back what looks like the head of an answer."""
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._held = data
            return
        self.write_now(data)

    def flush(self) -> None:
        """Write what is held back: the answer has no body."""
        if self._held:
            held, self._held = self._held, b""
            self.write_now(held)

    def close(self) -> None:
        """Close after everything is written."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with the times and sizes that the sweep needs."""

    message_since: float | None = None
    head_bytes: int | None = 0
    heard: float = 0.0
    closing_since: float | None = None
    asked: bool = False
    whole: _Whole

    def connection_made(self, transport: Any) -> None:
        """A connection was handed over."""
        super().connection_made(transport)
        self.whole = self.transport = _Whole(transport)  # type: ignore[assignment]
        self.heard = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Bytes came; a head that does not end is refused."""
        self.heard = time.monotonic()
        super().data_received(data)
        if self.head_bytes is not None:
            self.head_bytes += len(data)
            if self.head_bytes > _HEAD_BYTES and not self.transport.is_closing():
                self.refuse(b"431 Request Header Fields Too Large")

    def on_response_complete(self) -> None:
        """An answer is complete."""
        self.whole.flush()
        super().on_response_complete()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.message_since, self.head_bytes, self.asked = time.monotonic(), 0, True

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        super().on_headers_complete()
        self.head_bytes = None

    def on_message_complete(self) -> None:
        """Its body is complete."""
        super().on_message_complete()
        self.message_since, self.head_bytes = None, 0

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: nobody waits for the answer any more."""
        if self.cycle is not None and not self.cycle.response_complete:
            job = self.cycle.scope["state"].get("job")
            if job is not None:
                job.abandoned = True
        super().connection_lost(exc)

    def refuse(self, status: bytes) -> None:
        """Answer a request whose head is not complete, and close."""
        body = b'{"error": {"code": "bad_head", "message": "the head of the request is too large or too slow"}}'
        length = str(len(body)).encode()
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
            + length + b"\r\n\r\n" + body
        )  # fmt: skip
        self.transport.close()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def sweep(self, now: float, serving: Serving) -> None:
        """Close what has been too slow for too long."""
        if self.transport.is_closing():
            self.closing_since = self.closing_since or now
            if now - self.closing_since > _LINGER_SECONDS:
                self.transport.abort()  # its last answer is not being read
        elif self.message_since is not None and self.head_bytes is not None:
            if now - self.message_since > serving.head_timeout_s:
                self.refuse(b"408 Request Timeout")
        elif self.idle and self.message_since is not None:
            if now - self.message_since > serving.request_timeout_s + _LINGER_SECONDS:
                self.transport.close()  # answered long ago, and its body still comes
        elif not self.asked and now - self.heard > serving.keep_alive_s:
            self.transport.close()  # it has never asked for anything


class Worker(uvicorn.Server):
    """uvicorn's server without a listening socket.

    Args:
        channel: To the supervisor.
        settings: Model and limits.
    """

    def __init__(self, channel: Channel, settings: WorkerSettings) -> None:
        self.channel = channel
        self.settings = settings
        self.serving = settings.serving
        self.app = ScoringApp(
            settings.source, serving=settings.serving, key=settings.key, admin_key=settings.admin_key,
            reloader=self._ask_for_reload,
        )  # fmt: skip
        super().__init__(
            uvicorn.Config(
                self.app, http=Connection, ws="none", lifespan="off", access_log=False, log_config=None,
                server_header=False, proxy_headers=False, timeout_keep_alive=settings.serving.keep_alive_s,
            )
        )  # fmt: skip
        self._parent = os.getppid()
        self._prepared: tuple[ModelSource, ServedModel] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._reported = -1
        self._adopting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> set[Connection]:
        """Open connections."""
        return self.server_state.connections  # type: ignore[return-value]

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Signals are the supervisor's business, and the ones sent to it reach here as messages."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the model in the background, and listen to the supervisor."""
        self.servers = []
        loop = asyncio.get_running_loop()
        loop.add_reader(self.channel.fileno(), self._hear)
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        self._start(self._load_first())
        self.started = True
        self.channel.send("started")

    def _leave(self) -> None:
        self.app.draining = self.should_exit = True

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_first(self) -> None:
        await self.app.start()
        problem = "" if self.app.model else self.app.problem
        self.channel.send("ready", generation=self.settings.generation, problem=problem)

    def _hear(self) -> None:
        try:
            while (message := self.channel.receive()) is not None:
                self._obey(message)
        except EOFError:
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self._leave()  # the supervisor has ended

    def _obey(self, message: Message) -> None:
        fields = message.fields
        if message.descriptor is not None:
            self._adopting += 1
            self._start(self._adopt(socket.socket(fileno=message.descriptor)))
        elif message.kind == "drain":
            self._leave()
        elif message.kind == "prepare":
            self._start(self._prepare(unpack_source(fields["source"]), fields["generation"]))
        elif message.kind == "commit" and self._prepared is not None:
            self.app.swap(*self._prepared)
            self._prepared = None
            self.settings = replace(self.settings, generation=fields["generation"])
            self.channel.send("committed", generation=fields["generation"])
        elif message.kind == "abort":
            self._prepared = None
        elif message.kind == "reloaded":
            answer = self._answers.pop(fields["number"], None)
            if answer is not None and not answer.done():
                answer.set_result(fields)

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()  # the client has gone meanwhile
        finally:
            self._adopting -= 1

    def _protocol(self) -> asyncio.Protocol:
        return Connection(config=self.config, server_state=self.server_state, app_state={})

    async def _prepare(self, source: ModelSource, generation: int) -> None:
        problem, description = "", {}
        try:
            model = await self.app.load(source)
        except MlopsError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the current model stays
            _LOG.exception("loading %s failed", source.bundle)
            problem = f"{type(error).__name__}: {error}"
        else:
            self._prepared, description = (source, model), model.describe()
        self.channel.send("prepared", generation=generation, problem=problem, model=description)

    async def _ask_for_reload(self, source: ModelSource) -> dict[str, Any]:
        """Have the supervisor swap the model of every worker."""
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self.channel.send("reload", number=number, source=pack_source(source))
        try:
            async with asyncio.timeout(_RELOAD_SECONDS):
                fields = await answer
        except TimeoutError as error:
            raise RequestError(503, "timeout", f"no answer within {_RELOAD_SECONDS:.0f} s") from error
        finally:
            self._answers.pop(number, None)
        if fields["problem"]:
            raise RequestError(fields["status"], fields["code"], fields["problem"])
        return dict(fields["model"])

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: report; once a second: sweep."""
        now = time.monotonic()
        busy = self.app.scorer().busy_since
        if busy is not None and now - busy > _HUNG_SECONDS:
            _LOG.error("an inference has not come back for %.0f s: ending this worker", _HUNG_SECONDS)
            os._exit(70)
        if counter % 10 == 0 or len(self.connections) != self._reported:
            self._reported = len(self.connections)
            self.channel.send("alive", connections=self._reported)
        if counter % 10 == 0:
            for connection in list(self.connections):
                connection.sweep(now, self.serving)
        if os.getppid() != self._parent:
            self._leave()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain: answer everything that was accepted, tell clients to close, then close what is idle."""
        self.app.draining = True
        deadline = time.monotonic() + self.serving.drain_timeout_s
        while (self.connections or self._adopting) and (now := time.monotonic()) < deadline:
            for connection in list(self.connections):
                if connection.idle and now - connection.heard > _QUIET_SECONDS:
                    connection.transport.close()
            self.channel.send("alive", connections=len(self.connections))
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.transport.abort()
        self.app.close()


def pack_source(source: ModelSource) -> dict[str, Any]:
    """A source as JSON."""
    return {"bundle": str(source.bundle), "name": source.name, "version": source.version,
            "precision": source.precision, "threads": source.threads}  # fmt: skip


def unpack_source(content: dict[str, Any]) -> ModelSource:
    """What :func:`pack_source` packed."""
    return ModelSource(**{**content, "bundle": Path(content["bundle"])})


def work(channel: Channel, settings: WorkerSettings) -> None:
    """Run a worker until it is told to end. The last thing that its process does."""
    worker = Worker(channel, settings)
    start_log(worker.app.telemetry.log_lines_dropped.inc)
    worker.run()
    stop_log()
