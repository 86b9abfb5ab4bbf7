"""The first process of a server: it accepts connections and deals them to workers, which it forks, watches and replaces.

Dealing, instead of every worker accepting for itself, gives each worker its share: with a shared or reused port the workers
of a few long-lived connections get them by chance, and the unlucky one sets the tail of the latency. The cost is one
message for a connection, none for a request.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, NoReturn

from vision_mlops.serving.served_model import OTHER_CLASSES, ModelSource, pack_source, unpack_source
from vision_mlops.serving.telemetry.metrics_folder import use_slot
from vision_mlops.serving.telemetry.prometheus_metrics import forget_process, restart_counter
from vision_mlops.serving.workers.ipc import IpcConnection, Message, ipc_pair
from vision_mlops.serving.workers.model_reload import Reload, ReloadStep
from vision_mlops.serving.workers.worker import WorkerSettings, work

_LOG = logging.getLogger(__name__)
_SILENT_SECONDS = 30.0
"""A worker from which nothing was heard for so long is killed: its event loop hangs."""
_BACKOFF_SECONDS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STABLE_SECONDS = 10.0
_TICK_SECONDS = 0.25
_ACCEPT_AT_ONCE = 64
_FULL_SECONDS = 0.002
_DRAIN_MARGIN_SECONDS = 5.0


@dataclass(slots=True)
class Member:
    """One worker as the supervisor sees it, with the number of connections it was handed, and of those it says have ended.

    Both only ever grow: what a worker says while more is on its way to it cannot make the supervisor forget that.
    """

    pid: int
    slot: int
    channel: IpcConnection
    born: float
    heard: float
    generation: int
    started: bool = False
    ready: bool = False
    dealt: int = 0
    ended: int = 0
    settled: bool = False  # has told whether its first model is good

    @property
    def load(self) -> int:
        """Number of its open connections."""
        return self.dealt - self.ended


@dataclass(eq=False)
class Supervisor:
    """Runs workers until a signal ends them.

    Args:
        listener: Bound and listening socket.
        settings: What workers serve.
        size: Number of workers.
        on_ready: Called once, with "" when every worker is ready, or with the problem of the first that cannot be.
        parent: Socket to the process that started this one; when that has ended, the server drains, too.
    """

    listener: socket.socket
    settings: WorkerSettings
    size: int
    _: KW_ONLY
    on_ready: Callable[[str], None] | None = None
    parent: IpcConnection | None = None

    def __post_init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.reload: Reload | None = None
        self._restarts = restart_counter()
        self._parent_pid = os.getppid()
        self._on_terminal = _on_terminal()
        self._selector = selectors.DefaultSelector()
        self._accepting = False
        self._undealt: socket.socket | None = None
        self._draining_until: float | None = None
        self._generations = itertools.count(self.settings.generation + 1)
        self._deaths = 0
        self._fork_at = 0.0

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or the end of the terminal; drain, and return when the last worker has ended.

        A second signal kills the workers.
        """
        with self._handling_signals() as wakeup:
            self._selector.register(wakeup, selectors.EVENT_READ)
            if self.parent is not None:
                self._selector.register(self.parent, selectors.EVENT_READ)
            self.listener.setblocking(False)
            try:
                while self.members or self._draining_until is None:
                    self._fill()
                    dealt = self._deal()
                    self._listen(dealt and self._open() and self._draining_until is None)
                    sources = [
                        key.fileobj for key, _ in self._selector.select(_TICK_SECONDS if dealt else _FULL_SECONDS)
                    ]
                    # The listener last: connections that have ended count before new ones are dealt.
                    for source in sorted(sources, key=lambda source: source is self.listener):
                        self._serve(source, wakeup)
                    self._reap()
                    self._watch()
            finally:
                self._kill_all()
                for pid in list(self.members):
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                self.listener.close()
                self._selector.close()

    # Workers

    def _fill(self) -> None:
        """Fork missing workers; after quick deaths in a row, later and later."""
        now = time.monotonic()
        while len(self.members) < self.size and self._draining_until is None and now >= self._fork_at:
            self._fork()

    def _fork(self) -> None:
        ours, theirs = ipc_pair()
        taken = {member.slot for member in self.members.values()}
        slot = next(number for number in itertools.count(1) if number not in taken)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # what is there now stays shared: the collector of the worker must not touch it
        pid = os.fork()
        if pid == 0:
            self._become_worker(theirs, slot)
        gc.unfreeze()
        theirs.close()
        now = time.monotonic()
        self.members[pid] = Member(pid, slot, ours, now, now, self.settings.generation)
        self._selector.register(ours, selectors.EVENT_READ, pid)

    def _become_worker(self, channel: IpcConnection, slot: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for name in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to the whole group
                signal.signal(name, signal.SIG_IGN)
            self._selector.close()
            self.listener.close()
            if self.parent is not None:
                self.parent.close()
            for member in self.members.values():
                member.channel.close()
            use_slot(slot)
            work(channel, self.settings)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of the parent's stack may run in the child
            _LOG.exception("a worker failed")
        finally:
            with contextlib.suppress(BaseException):
                logging.shutdown()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        """Bury workers that have ended; the first process of a container also gets children of others, to be reaped."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] in self.members:
                    self._bury(ended[0], os.waitstatus_to_exitcode(ended[1]))

    def _bury(self, pid: int, code: int) -> None:
        member = self.members.pop(pid)
        with contextlib.suppress(KeyError):
            self._selector.unregister(member.channel)
        member.channel.close()
        forget_process(member.slot)
        if self.reload is not None:
            self.reload.lost(pid)
            self._settle_reload()
        if self._draining_until is not None:
            return
        now = time.monotonic()
        self._deaths = 0 if now - member.born > _STABLE_SECONDS else self._deaths + 1
        pause = _BACKOFF_SECONDS[min(self._deaths, len(_BACKOFF_SECONDS) - 1)]
        self._fork_at = now + pause
        _LOG.warning("worker %d exited with code %d; another one starts in %.1f s", pid, code, pause)
        self._restarts.inc()

    def _watch(self) -> None:
        now = time.monotonic()
        if self.settings.keys is not None:
            self.settings.keys.refresh()  # a worker that it forks begins with the keys of now
        for member in self.members.values():
            if now - member.heard > _SILENT_SECONDS:
                _LOG.error("worker %d has been silent for %.0f s: killing it", member.pid, _SILENT_SECONDS)
                member.heard = now
                _kill(member.pid, signal.SIGKILL)
        if self.parent is not None and os.getppid() != self._parent_pid:
            self._drain()
        if self._draining_until is not None and now > self._draining_until:
            self._kill_all()

    # Connections

    def _open(self) -> bool:
        return any(member.started for member in self.members.values()) and (
            sum(member.load for member in self.members.values()) < self.settings.serving.max_connections
        )

    def _listen(self, wanted: bool) -> None:
        """Accept, or leave connections in the system's queue while nobody can take them."""
        if wanted and not self._accepting:
            self._selector.register(self.listener, selectors.EVENT_READ)
        elif not wanted and self._accepting:
            self._selector.unregister(self.listener)
        self._accepting = wanted

    def _accept(self) -> bool:
        """Accept and deal some of the waiting connections; return False when none waits any more."""
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _address = self.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return False
            except OSError as error:
                _LOG.warning("cannot accept: %s", error.strerror)
                time.sleep(0.05)  # out of descriptors: the queue of the system has to hold them for a moment
                return False
            self._undealt = connection
            if not self._deal() or not self._open():
                return False
        return True

    def _deal(self) -> bool:
        """Hand over the accepted connection: to a ready worker before others, then to the one with the fewest connections.

        Return False if no worker can take it at the moment: it is kept until one can.
        """
        connection = self._undealt
        if connection is None:
            return True
        able = [member for member in self.members.values() if member.started]
        for member in sorted(able, key=lambda member: (not member.ready, member.load)):
            if member.channel.send_connection(connection):
                member.dealt += 1
                connection.close()
                self._undealt = None
                return True
        return False

    # Events

    def _serve(self, source: Any, wakeup: socket.socket) -> None:
        if source is self.listener:
            if self._accepting:
                self._accept()
        elif source is wakeup:
            with contextlib.suppress(BlockingIOError):
                for number in wakeup.recv(4096):
                    self._signalled(number)
        elif self.parent is not None and source is self.parent:
            with contextlib.suppress(EOFError):
                self.parent.receive()
                return
            self._selector.unregister(source)
            self._drain()  # the process that started this one has ended
        else:
            self._hear(source)

    def _hear(self, channel: IpcConnection) -> None:
        member = next((member for member in self.members.values() if member.channel is channel), None)
        if member is None:
            return
        try:
            while (message := channel.receive()) is not None:
                self._obey(member, message)
        except EOFError:
            self._selector.unregister(channel)  # it is ending: to be reaped

    def _obey(self, member: Member, message: Message) -> None:
        fields = message.fields
        member.heard = time.monotonic()
        if message.kind == "alive":
            member.ended = fields["ended"]
        elif message.kind == "started":
            member.started = True
        elif message.kind == "ready":
            member.ready, member.settled = not fields["problem"], True
            self._announce(fields["problem"])
            self._catch_up()
        elif message.kind == "reload":
            self._asked_to_reload(member, fields)
        elif message.kind == "prepared" and self.reload is not None:
            self.reload.prepared(member.pid, **fields)
            self._settle_reload()
        elif message.kind == "committed":
            member.generation, member.ready = fields["generation"], True
            if self.reload is not None:
                self.reload.committed(member.pid, **fields)
                self._settle_reload()

    def _announce(self, problem: str) -> None:
        complete = len(self.members) == self.size and all(member.ready for member in self.members.values())
        if self.on_ready is not None and (problem or complete):
            announce, self.on_ready = self.on_ready, None
            announce(problem)

    # Swaps of the model

    def _asked_to_reload(self, member: Member, fields: dict[str, Any]) -> None:
        if self.reload is not None:
            problem = "another model is being loaded; try again when that is done"
            self._answer((member.pid, fields["number"]), problem, 409, "reloading")
            return
        self._start_reload(
            unpack_source(fields["source"]),
            asked_by=(member.pid, fields["number"]),
            other_classes=fields["other_classes"],
        )

    def _start_reload(
        self, source: ModelSource, asked_by: tuple[int, int] | None = None, *, other_classes: bool = False
    ) -> None:
        """Have every worker that has started load a model beside its current one."""
        waiting = {member.pid for member in self.members.values() if member.started}
        # A number for each try: what a slow worker says about one that has failed is not taken for this one.
        self.reload = Reload(source, next(self._generations), waiting, asked_by)
        for pid in waiting:
            self.members[pid].channel.send(
                "prepare", source=pack_source(source), generation=self.reload.generation, other_classes=other_classes
            )

    def _settle_reload(self) -> None:
        """Act on the step that the swap has reached."""
        swap = self.reload
        if swap is None:
            return
        if swap.step is ReloadStep.COMMITTING and self.settings.generation != swap.generation:
            self.settings = replace(self.settings, source=swap.source, generation=swap.generation)
            for pid in swap.members:
                self.members[pid].channel.send("commit", generation=swap.generation)
        elif swap.step in (ReloadStep.DONE, ReloadStep.FAILED):
            self.reload = None
            if swap.step is ReloadStep.FAILED:
                for pid in swap.members:
                    self.members[pid].channel.send("abort")
                _LOG.error("the model is unchanged: %s", swap.problem)
                for member in self.members.values():
                    if member.settled and member.generation != self.settings.generation:
                        _kill(member.pid, signal.SIGKILL)  # it cannot get what the others serve: start another one
            if swap.asked_by is not None:
                self._answer(
                    swap.asked_by, swap.problem, 409 if swap.code == OTHER_CLASSES else 422, swap.code, swap.model
                )
            self._catch_up()

    def _catch_up(self) -> None:
        """Give the current model to workers that began with an older one, if a swap came while they were starting."""
        if self.reload is None and any(
            member.settled and member.generation != self.settings.generation for member in self.members.values()
        ):
            self._start_reload(self.settings.source, other_classes=True)

    def _answer(
        self, asked_by: tuple[int, int], problem: str, status: int, code: str, model: dict[str, Any] | None = None
    ) -> None:
        pid, number = asked_by
        member = self.members.get(pid)
        if member is not None:
            member.channel.send("reloaded", number=number, problem=problem, status=status, code=code, model=model or {})

    # Signals

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[socket.socket]:
        """Have each signal arrive as a byte on the socket that is yielded."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        old_wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        old = {name: signal.signal(name, lambda number, frame: None) for name in names}
        try:
            yield reading
        finally:
            for name, handler in old.items():
                signal.signal(name, handler)
            signal.set_wakeup_fd(old_wakeup)
            reading.close()
            writing.close()

    def _signalled(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._draining_until is not None:
                self._kill_all()
            else:
                self._drain()
        elif number == signal.SIGHUP and self._on_terminal:
            self._drain()
        elif number == signal.SIGHUP and self.reload is None:
            self._start_reload(self.settings.source)

    def _drain(self) -> None:
        """Accept what has reached the system's queue, stop listening, and have the workers finish what they hold; once."""
        if self._draining_until is not None:
            return
        self._draining_until = time.monotonic() + self.settings.serving.drain_timeout_s + _DRAIN_MARGIN_SECONDS
        while self._open() and time.monotonic() < self._draining_until:
            if not self._deal():
                time.sleep(_FULL_SECONDS)
            elif not self._accept() and self._undealt is None:
                break
        self._listen(False)
        self.listener.close()
        for member in self.members.values():
            member.channel.send("drain")

    def _kill_all(self) -> None:
        for pid in self.members:
            _kill(pid, signal.SIGKILL)


def _on_terminal() -> bool:
    """Return whether SIGHUP says that the terminal was closed, rather than that a service manager wants a reload."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: to go on without the terminal
        return False
    for stream in (0, 1):
        with contextlib.suppress(OSError):
            os.tcgetpgrp(stream)  # fails for anything but the terminal that controls this process
            return True
    return False


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
