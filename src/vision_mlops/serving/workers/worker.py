"""A worker process: one event loop that serves the connections which the supervisor hands over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from vision_mlops.config.workload import Serving
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.library_settings import keep_freed_memory
from vision_mlops.serving.access_keys import AccessKeys
from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.prediction_log.predictions import start_predictions
from vision_mlops.serving.scoring_app import ScoringApp
from vision_mlops.serving.served_model import (
    OTHER_CLASSES,
    ModelSource,
    ReloadRequest,
    ServedModel,
    other_classes,
    pack_source,
    unpack_source,
)
from vision_mlops.serving.telemetry.server_log import start_log, stop_log
from vision_mlops.serving.telemetry.tracing import start_tracing
from vision_mlops.serving.workers.ipc import IpcConnection, Message

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_QUIET_SECONDS = 1.0
"""While draining, a connection on which nothing came for so long is taken for idle and closed."""
_HUNG_SECONDS = 120.0
_RELOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know. ``generation`` counts the models that the server has been told to serve."""

    source: ModelSource
    serving: Serving
    keys: AccessKeys | None = None
    admin_key: str | None = None
    generation: int = 0


class Worker:
    """The loop of a worker; made in its event loop.

    Args:
        channel: Channel to the supervisor.
        settings: Model and limits.
    """

    def __init__(self, channel: IpcConnection, settings: WorkerSettings) -> None:
        self.channel = channel
        self.settings = settings
        self.app = ScoringApp(
            settings.source, serving=settings.serving, keys=settings.keys, admin_key=settings.admin_key,
            reloader=self._ask_for_reload,
        )  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._parent = os.getppid()
        self._ending = asyncio.Event()
        self._prepared: tuple[ModelSource, ServedModel] | None = None
        self._preparing: int | None = None  # generation that is loaded or being loaded
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._adopting = 0
        self._ended = 0
        self._reported = 0
        self.app.hub.on_close = self._count_end
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until told to end, or until the supervisor has ended; then drain."""
        start_log(self.app.telemetry.log_lines_dropped.inc)
        close = self._start_reporting()
        self._loop.add_reader(self.channel.fileno(), self._hear)
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        self._start(self._load_first())
        self.channel.send("started")
        ticks = 0
        while not self._ending.is_set():
            self._tick(ticks)
            ticks += 1
            await asyncio.sleep(_TICK_SECONDS)
        await self._drain()
        self.app.close()
        await asyncio.to_thread(close)
        stop_log()

    def _start_reporting(self) -> Callable[[], None]:
        """Start what has threads, which must not exist before the fork; return what ends it within some seconds."""
        app, settings = self.app, self.settings.serving.predictions
        name = self.settings.source.name or self.settings.source.bundle.name
        app.tracing = start_tracing()
        app.predictions = start_predictions(settings, name, app.telemetry.count_record)
        shipper = None
        if app.predictions is not None and settings.to:
            from vision_mlops.serving.prediction_log.shipping import (
                start_shipping,  # needs the part of the package for storage
            )

            shipper = start_shipping(settings, name, app.telemetry.count_record)

        def close() -> None:
            if app.predictions is not None:
                app.predictions.close(1.0)
            if shipper is not None:
                shipper.close(2.0)
            app.tracing.close(1.0)

        return close

    def _leave(self) -> None:
        self.app.draining = True
        self._ending.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_first(self) -> None:
        await self.app.start()
        self.channel.send("ready", problem="" if self.app.model else self.app.problem)

    # The supervisor

    def _hear(self) -> None:
        try:
            while (message := self.channel.receive()) is not None:
                self._obey(message)
        except EOFError:
            self._loop.remove_reader(self.channel.fileno())
            self._leave()  # the supervisor has ended

    def _obey(self, message: Message) -> None:
        fields = message.fields
        if message.descriptor is not None:
            self._adopting += 1
            self._start(self._adopt(socket.socket(fileno=message.descriptor)))
        elif message.kind == "drain":
            self._leave()
        elif message.kind == "prepare":
            wanted = ReloadRequest(unpack_source(fields["source"]), fields["other_classes"])
            self._preparing = fields["generation"]
            self._start(self._prepare(wanted, fields["generation"]))
        elif message.kind == "commit" and self._prepared is not None:
            self.app.swap(*self._prepared)
            self._prepared = None
            self.settings = replace(self.settings, generation=fields["generation"])
            self.channel.send("committed", generation=fields["generation"])
        elif message.kind == "abort":
            self._prepared = self._preparing = None
        elif message.kind == "reloaded":
            answer = self._answers.pop(fields["number"], None)
            if answer is not None and not answer.done():
                answer.set_result(fields)

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self.app.hub, connection)
        except OSError:
            connection.close()  # the client has disconnected since
            self._count_end()
        finally:
            self._adopting -= 1

    async def _prepare(self, wanted: ReloadRequest, generation: int) -> None:
        problem, code, description = "", "bundle_refused", {}
        try:
            model = await self.app.load(wanted.source)
        except MlopsError as error:
            problem = error.on_one_line()
        except Exception as error:  # noqa: BLE001 - whatever it is, the current model stays
            _LOG.exception("loading %s failed", wanted.source.bundle)
            problem = f"{type(error).__name__}: {error}"
        else:
            if not wanted.other_classes:
                problem, code = other_classes(self.app.model, model), OTHER_CLASSES
            if generation != self._preparing:
                return  # another worker has refused it since, and another swap may be under way
            self._prepared, description = (wanted.source, model), model.describe()
        self.channel.send("prepared", generation=generation, problem=problem, code=code, model=description)

    async def _ask_for_reload(self, wanted: ReloadRequest) -> dict[str, Any]:
        """Have the supervisor swap the model of every worker."""
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = self._loop.create_future()
        self.channel.send(
            "reload", number=number, source=pack_source(wanted.source), other_classes=wanted.other_classes
        )
        try:
            async with asyncio.timeout(_RELOAD_SECONDS):
                fields = await answer
        except TimeoutError as error:
            raise RequestError(503, "timeout", f"no response within {_RELOAD_SECONDS:.0f} s") from error
        finally:
            self._answers.pop(number, None)
        if fields["problem"]:
            raise RequestError(fields["status"], fields["code"], fields["problem"])
        return dict(fields["model"])

    def _count_end(self) -> None:
        """Report at once that a connection has ended, as the next one is dealt by that; several at a time in one message."""
        if self._ended == self._reported:
            self._loop.call_soon(self._report)
        self._ended += 1

    def _report(self) -> None:
        if self.channel.send("alive", ended=self._ended):
            self._reported = self._ended

    # Time

    def _tick(self, ticks: int) -> None:
        """Count and look for the supervisor, ten times a second; report, sweep and read keys once a second."""
        self.app.request_metrics.book()
        if ticks % 10 == 0:
            self._report()
            self.app.hub.tick()
            if self.app.keys is not None:
                self.app.keys.refresh()
        if os.getppid() != self._parent:
            self._leave()
        busy = self.app.scorer.busy_since
        if busy is not None and time.monotonic() - busy > _HUNG_SECONDS:
            _LOG.error("an inference has taken more than %.0f s: ending this worker", _HUNG_SECONDS)
            stop_log()
            os._exit(70)

    async def _drain(self) -> None:
        """Respond to everything that was accepted, telling clients to close, and close what is idle."""
        deadline = time.monotonic() + self.settings.serving.drain_timeout_s
        connections = self.app.hub.connections
        while (connections or self._adopting) and (now := time.monotonic()) < deadline:
            for connection in list(connections):
                if connection.idle and now - connection.heard > _QUIET_SECONDS:
                    connection.transport.close()
            self._report()
            await asyncio.sleep(_TICK_SECONDS / 2)
        for connection in list(connections):
            connection.transport.abort()


def work(channel: IpcConnection, settings: WorkerSettings) -> None:
    """Run a worker until it is told to end: the last thing that its process does."""

    async def serve() -> None:
        await Worker(channel, settings).run()

    keep_freed_memory()
    try:
        import uvloop
    except ImportError:  # no such thing on this system: slower, and the same
        asyncio.run(serve())
    else:
        uvloop.run(serve())
