"""The server's log: one JSON object a line on standard error, and nothing that happens there holds the server up.

A line is written with one system call that never waits. Where it does not go through, as the disk is full, the pipe is
closed or its reader has stopped, the line is dropped and counted. No line is longer than what a pipe takes as a whole, so
lines of several processes never mix.

    start_log(telemetry.log_lines_dropped.inc)      # in each process, after the fork
    log_requests([request_line(AnsweredRequest(moment, request_id, "POST", "/score", 200, 3.2))])
    log_event("reloaded", model_id=...)

Records of :mod:`logging`, those of libraries too, become lines of the same form. Image data, keys and queries of
addresses are never logged.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import select
import socket
import stat
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

Level = Literal["debug", "info", "warning", "error", "critical"]

_PIPE_BYTES = 1024 * 1024
"""Space of a pipe that we ask for: thousands of lines, while the reader waits for a processor that we keep busy."""
_LONGEST_PATH = 256
READINESS = "/health/ready"
_LONGEST_METHOD = 16
# What follows these words in addresses, connection strings and headers. A backslash or quote may belong to the JSON around.
_SECRET = re.compile(
    r"(?i)\b((?:sig|signature|token|secret|password|code|(?:api|account|access|instrumentation|shared|subscription)?[-_]?key)="
    r"|ikey': '|bearer )[^\s&;,\"'<>\\]+"
)

_SUSPECT = ("=", "earer ", "EARER ", "ey': '")
"""Without one of these no secret is found; to look for them is twenty times faster."""


class AnsweredRequest(NamedTuple):
    """One answered request.

    Attributes:
        moment: When it was answered, in seconds since 1970.
        request_id: Its id, of characters that need no escape in JSON.
        method: Method of HTTP.
        path: Path without the query, in which there may be secrets.
        status: Status of the response.
        ms: Milliseconds from the first byte of the request to the end of the response.
        trace_id, span_id: Hexadecimal; empty without a trace.
        model_id: The bundle's id.
        queue_ms: How long it waited for its turn; None if nothing was scored.
        inference_ms: How long the network took; likewise.
        error: Code of an error, such as ``not_an_image``.
        labels: Label of each image that was scored.
    """

    moment: float
    request_id: str
    method: str
    path: str
    status: int
    ms: float
    trace_id: str = ""
    span_id: str = ""
    model_id: str = ""
    queue_ms: float | None = None
    inference_ms: float | None = None
    error: str = ""
    labels: tuple[str, ...] = ()


class ServerLog(logging.Handler):
    """Writes whole lines to a file descriptor without ever waiting for anybody.

    As a handler of :mod:`logging` it makes lines of records; a record's ``extra={"fields": {...}}`` are fields of the line.

    Args:
        descriptor: File descriptor to write to. Its flags are left alone, as other processes share them.
        dropped: Called for each line that did not go through; must not log.
    """

    def __init__(self, descriptor: int = 2, dropped: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._dropped = dropped
        self._pid = os.getpid()
        self._torn = False
        self._opened = contextlib.ExitStack()
        self._send = self._choose(descriptor)

    def write(self, line: bytes, count: int = 1) -> None:
        """Write a line, which ends with a newline, or several at once; never raise."""
        if self._torn:  # after a part of a line, for which there was no room, begin a new one
            line = b"\n" + line
        try:
            written = self._send(line)
        except OSError:
            written = 0
        if written == len(line):
            self._torn = False
            return
        self._torn = self._torn or written > 0
        for _ in range(count - line[:written].count(b"\n", 1)):
            self._dropped()

    def requests(self, lines: list[str]) -> None:
        """Write lines of :func:`request_line`, with as few system calls as keep them whole."""
        end = f',"pid":{self._pid}}}\n'
        group: list[bytes] = []
        size = 0
        for text in lines:
            line = f"{text}{end}".encode()
            if group and size + len(line) > select.PIPE_BUF:
                self.write(b"".join(group), len(group))
                group, size = [], 0
            group.append(line)
            size += len(line)
        if group:
            self.write(b"".join(group), len(group))

    def event(self, event: str, level: Level = "info", **fields: object) -> None:
        """Write another event, named by a word, with fields of any type that JSON has."""
        self.write(_line(event, level, fields, self._pid))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what cannot be formatted is written as it is."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - whatever a caller has passed
            message = f"{record.msg!r} with {record.args!r}: {error!r}"
        fields: dict[str, object] = {"logger": record.name, "message": message}
        given = getattr(record, "fields", None)
        if isinstance(given, dict):
            fields |= given
        event = "log"
        if record.exc_info and record.exc_info[1] is not None:
            event = "exception"
            told = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
            fields |= {"exception": type(record.exc_info[1]).__name__, "traceback": told}
        self.write(_line(event, record.levelname.lower(), fields, os.getpid()))

    def close(self) -> None:
        """Close what was opened, and drop what comes later; the descriptor that was given stays open."""
        self._send = _nowhere
        self._opened.close()
        super().close()

    def _choose(self, descriptor: int) -> Callable[[bytes], int]:
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            return _nowhere
        if stat.S_ISREG(mode):  # never waits for a reader; and another opening would have another position in it
            return lambda line: os.write(descriptor, line)
        if stat.S_ISSOCK(mode):
            connected = self._opened.enter_context(socket.socket(fileno=os.dup(descriptor)))
            return lambda line: connected.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        with contextlib.suppress(OSError):  # opened a second time, a pipe or terminal has flags of its own
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            self._opened.callback(os.close, own)
            with contextlib.suppress(OSError):  # no pipe, or the user has too many: it works with less
                if fcntl.fcntl(own, fcntl.F_GETPIPE_SZ) < _PIPE_BYTES:
                    fcntl.fcntl(own, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            return lambda line: os.write(own, line)
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        return lambda line: os.write(descriptor, line) if poll.poll(0) else 0


def _nowhere(line: bytes) -> int:
    return 0


_log: ServerLog | None = None


def start_log(dropped: Callable[[], object] = lambda: None, *, descriptor: int = 2) -> ServerLog:
    """Send all logging of this process to standard error, in place of what was set up before. To be called after a fork.

    Args:
        dropped: Called for each line that did not go through.
        descriptor: Another place than standard error.

    Returns:
        The log for requests and events, which :func:`log_requests` and :func:`log_event` use.
    """
    global _log
    _log = ServerLog(descriptor, dropped)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(_log)
    root.setLevel(logging.WARNING)
    logging.getLogger("vision_mlops").setLevel(logging.INFO)
    logging.captureWarnings(True)
    return _log


def stop_log() -> None:
    """Stop logging. Every line has been written by then, or dropped."""
    global _log
    if _log is not None:
        _log.close()
        _log = None


def log_requests(lines: list[str]) -> None:
    """Write lines as :meth:`ServerLog.requests` does, or nothing if no log was started."""
    if _log is not None:
        _log.requests(lines)


def request_line(answered: AnsweredRequest) -> str:
    """Return the line of one request, but for its end.

    It is written by hand, as :func:`json.dumps` of it all takes three times as long.
    """
    moment, request_id, method, path, status, ms, trace_id, span_id, model_id, queue_ms, inference_ms, error, _ = (
        answered
    )
    # Who asks whether the server is ready expects to be told that it is not yet.
    level = "info" if status < 500 or path == READINESS else "error"
    line = (
        f'{{"time":"{_time(moment)}","level":"{level}","event":"request"'
        f',"request_id":"{request_id}","trace_id":"{trace_id}","span_id":"{span_id}"'
        f',"method":{json.dumps(method[:_LONGEST_METHOD])},"path":{json.dumps(path[:_LONGEST_PATH])}'
        f',"status":{status},"ms":{ms:.3f}'
    )
    if queue_ms is not None:
        line += f',"queue_ms":{queue_ms:.3f}'
    if inference_ms is not None:
        line += f',"inference_ms":{inference_ms:.3f}'
    if error:
        line += f',"error":{json.dumps(error)}'
    return f'{line},"model_id":{json.dumps(model_id)}'


def log_event(event: str, level: Level = "info", **fields: object) -> None:
    """Write an event as :meth:`ServerLog.event` does, or nothing if no log was started."""
    if _log is not None:
        _log.event(event, level, **fields)


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def _line(event: str, level: str, fields: dict[str, object], pid: int) -> bytes:
    """Return a line without secrets and within the longest length: a traceback loses its beginning, a message its end."""
    whole = {"time": _time(time.time()), "level": level, "event": event, **fields, "pid": pid}
    line = _encoded(whole)
    for name, cut in (("traceback", -1), ("message", 1)):
        text = whole.get(name)
        while len(line) > select.PIPE_BUF and isinstance(text, str) and len(text) > 16:
            keep = len(text) * 3 // 4
            text = text[:keep] if cut > 0 else text[-keep:]
            whole[name] = f"{text}..." if cut > 0 else f"...{text}"
            line = _encoded(whole)
    if len(line) > select.PIPE_BUF:
        line = _encoded(
            {key: whole[key] for key in ("time", "level", "event", "pid")} | {"message": "the line is too long"}
        )
    return line


def _encoded(fields: dict[str, object]) -> bytes:
    try:
        text = json.dumps(fields, separators=(",", ":"), default=str, skipkeys=True)
    except Exception as error:  # noqa: BLE001 - an object that cannot even be shown must not stop who tells about it
        text = json.dumps({"time": _time(time.time()), "level": "error", "event": "unloggable", "message": repr(error)})
    if any(sign in text for sign in _SUSPECT):
        text = _SECRET.sub(r"\1***", text)
    return f"{text}\n".encode()
