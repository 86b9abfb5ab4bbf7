"""The server's log: one JSON object a line on standard error, written by a thread that may be slow or fail alone.

Requests must not wait for the one who reads the log, nor fail with a full disk: lines nobody takes are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_LINES = 10_000
_PAUSE_SECONDS = 0.1


class LineWriter:
    """Lines to a file descriptor, through a bounded buffer.

    Args:
        descriptor: Where to.
        on_drop: Called with the number of lines that were dropped, on any thread.
    """

    def __init__(self, descriptor: int, on_drop: Callable[[int], None] = lambda count: None) -> None:
        self._descriptor = descriptor
        self._on_drop = on_drop
        self._lines: deque[str] = deque()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def write(self, line: str) -> None:
        """Take a line; it never blocks and never fails."""
        if len(self._lines) >= _LINES:
            self._on_drop(1)
            return
        self._lines.append(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is left, for at most ``timeout_s``."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending.wait(_PAUSE_SECONDS) or self._lines:
            count = len(self._lines)
            if count:
                self._flush([self._lines.popleft() for _ in range(count)])

    def _flush(self, lines: list[str]) -> None:
        data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # full disk, closed pipe, or a pipe that another program made non-blocking
            self._on_drop(len(lines))


_writer: LineWriter | None = None


def start_log(on_drop: Callable[[int], None] = lambda count: None) -> LineWriter:
    """Send this process's log to standard error, as JSON lines. To be called again after a fork."""
    global _writer
    _writer = LineWriter(sys.stderr.fileno(), on_drop)
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(logging.WARNING)
    logging.getLogger("vision_mlops").setLevel(logging.INFO)
    return _writer


def stop_log() -> None:
    """Write what is left and log nothing more."""
    global _writer
    if _writer is not None:
        _writer.close()
        _writer = None


def log_event(event: str, **fields: Any) -> None:
    """One line about a request or the server; never image data or keys. Nothing where no log was started."""
    if _writer is not None:
        _writer.write(json.dumps({"time": timestamp(), "level": "info", "event": event, **fields}))


def timestamp(seconds: float | None = None) -> str:
    """ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Handler(logging.Handler):
    """What libraries and our own modules log, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        if _writer is None:
            return
        content: dict[str, Any] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
            "pid": os.getpid(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            content["exception"] = "".join(traceback.format_exception(*record.exc_info))
        _writer.write(json.dumps(content, default=str))
