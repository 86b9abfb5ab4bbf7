"""The server's log: what a line says, what it never says, and that a log which takes no lines holds nobody up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vision_mlops.serving.telemetry.server_log import (
    AnsweredRequest,
    ServerLog,
    log_event,
    log_requests,
    request_line,
    start_log,
    stop_log,
)


class Counter:
    """Counts lines that were dropped."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> None:
        self.number += 1


class Pipe:
    """A pipe whose flags are those that a shell gives it: writing waits."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.dropped = Counter()
        self.writer = ServerLog(self.write_end, self.dropped)

    def text(self) -> str:
        """What is in it."""
        found = b""
        while select.select([self.read_end], [], [], 0)[0] and (piece := os.read(self.read_end, 1 << 20)):
            found += piece
        return found.decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def close(self) -> None:
        self.writer.close()
        for end in (self.read_end, self.write_end):
            with contextlib.suppress(OSError):  # a test has closed it
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """All that start_log changes in the process is as before afterwards."""
    names = (None, "vision_mlops")
    loggers = [logging.getLogger(name) for name in names]
    kept = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    logging.getLogger().handlers = []  # those of pytest would be closed
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    logging.captureWarnings(False)


def send(log: ServerLog, **changes: Any) -> None:
    given: dict[str, Any] = {"trace_id": "1" * 32, "span_id": "2" * 16, "model_id": "abc", **changes}
    asked = given.pop("method", "POST"), given.pop("path", "/score"), given.pop("status", 200)
    log.requests([request_line(AnsweredRequest(given.pop("moment", time.time()), "r-1", *asked, 3.25, **given))])


def test_a_request_is_one_line(pipe: Pipe) -> None:
    send(pipe.writer, moment=1_767_323_045.0678, queue_ms=0.5, inference_ms=2.0)
    send(pipe.writer, status=503, error="not_ready")
    first, second = pipe.lines()
    assert first.pop("time") == "2026-01-02T03:04:05.067Z"
    assert first == {
        "level": "info",
        "event": "request",
        "request_id": "r-1",
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "method": "POST",
        "path": "/score",
        "status": 200,
        "ms": 3.25,
        "queue_ms": 0.5,
        "inference_ms": 2.0,
        "model_id": "abc",
        "pid": os.getpid(),
    }
    assert (second["level"], second["status"], second["error"]) == ("error", 503, "not_ready")
    assert "queue_ms" not in second


@pytest.mark.parametrize(
    "path", ['/a"b\\', "/a\nb\x00", "/\ud800", "/\U0001f600" * 5000], ids=["quote", "control", "surrogate", "long"]
)
def test_no_client_can_forge_or_break_a_line(pipe: Pipe, path: str) -> None:
    send(pipe.writer, path=path, method="G" * 5000)
    text = pipe.text()
    assert len(text) <= select.PIPE_BUF
    assert text.count("\n") == 1
    told = json.loads(text)
    assert path.startswith(told["path"])
    assert told["method"] == "G" * 16


def broken() -> Exception:
    try:
        raise ValueError("https://h/c?sv=1&sig=abc%2Bdef&se=2 with Authorization: Bearer eyJx.y")
    except ValueError as error:
        return error


def report(pipe: Pipe, error: Exception) -> None:
    """Log an exception as :mod:`logging` does."""
    record = logging.LogRecord("a", logging.ERROR, "a.py", 1, str(error), (), (type(error), error, error.__traceback__))
    record.fields = {"request_id": "r-1"}
    pipe.writer.emit(record)


def test_an_exception_is_one_line_without_secrets(pipe: Pipe) -> None:
    report(pipe, broken())
    (told,) = pipe.lines()
    assert (told["level"], told["event"], told["request_id"], told["exception"]) == (
        "error", "exception", "r-1", "ValueError",
    )  # fmt: skip
    assert told["message"] == "https://h/c?sv=1&sig=***&se=2 with Authorization: Bearer ***"
    assert told["traceback"].startswith("Traceback (most recent call last):\n")
    assert told["traceback"].endswith(told["message"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "InstrumentationKey=0000-1111;IngestionEndpoint=https://x/",
            "InstrumentationKey=***;IngestionEndpoint=https://x/",
        ),
        ("AccountName=a;AccountKey=a+b/c==;x", "AccountName=a;AccountKey=***;x"),
        ("Data drop 400: {'iKey': '0000-1111', 'tags': 1}", "Data drop 400: {'iKey': '***', 'tags': 1}"),
        ('GET /score?code=s3cr3t&top_k=2 "x"', 'GET /score?code=***&top_k=2 "x"'),
        ("a key=va\\lue", "a key=***\\lue"),
        ("the key is missing, monkey=1", "the key is missing, monkey=1"),
    ],
)
def test_secrets_are_taken_out(pipe: Pipe, text: str, kept: str) -> None:
    pipe.writer.event("told", message=text)
    assert pipe.lines()[0]["message"] == kept


def test_a_long_line_keeps_the_end_of_its_traceback(pipe: Pipe) -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        else:
            raise RuntimeError("\U0001f600" * 3000)

    try:
        deep(90)
    except RuntimeError as error:
        report(pipe, error)
    text = pipe.text()
    assert 2000 < len(text) <= select.PIPE_BUF
    told = json.loads(text)
    assert told["request_id"] == "r-1"
    assert told["traceback"].startswith("...")
    assert told["message"].endswith("...")
    pipe.writer.event("many", "info", **{f"field{number}": "x" * 100 for number in range(100)})
    assert pipe.lines()[0]["message"] == "the line is too long"


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_shown_is_said(pipe: Pipe) -> None:
    pipe.writer.event("strange", thing=Unshowable())
    assert pipe.lines()[0]["event"] == "unloggable"


@pytest.mark.usefixtures("logging_restored")
def test_records_of_logging_and_warnings_are_lines(pipe: Pipe) -> None:
    start_log(descriptor=pipe.write_end)
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    logging.getLogger("asyncio").info("Using selector")
    logging.getLogger("vision_mlops.serving").info("ready", extra={"fields": {"model_id": "abc"}})
    logging.getLogger("other").info("%d %d", 1, 2)
    logging.getLogger("other").warning("%d %d", 1)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    refused, ready, wrong, error, warning = pipe.lines()
    assert (refused["level"], refused["event"], refused["logger"]) == ("warning", "log", "asyncio")
    assert refused["message"] == "socket.send() raised exception."
    assert refused["pid"] == os.getpid()
    assert (ready["level"], ready["model_id"]) == ("info", "abc")
    assert "'%d %d' with (1,)" in wrong["message"]
    assert (error["event"], error["exception"]) == ("exception", "ValueError")
    assert "ValueError: no" in error["traceback"]
    assert "UserWarning: old" in warning["message"]


@pytest.mark.usefixtures("logging_restored")
def test_the_log_of_the_process_is_started_and_stopped(pipe: Pipe) -> None:
    log_event("early")
    start_log(pipe.dropped, descriptor=pipe.write_end)
    log_event("told", "warning", model_id="abc")
    log_requests([request_line(AnsweredRequest(time.time(), "r-1", "GET", "/", 200, 1.5))])
    logging.getLogger("vision_mlops").info("ready")
    told, asked, ready = pipe.lines()
    assert (told["event"], told["level"], told["model_id"]) == ("told", "warning", "abc")
    assert (asked["event"], asked["ms"], asked["trace_id"]) == ("request", 1.5, "")
    assert ready["message"] == "ready"
    stop_log()
    log_event("late")
    log_requests([request_line(AnsweredRequest(time.time(), "r-1", "GET", "/", 200, 1.5))])
    assert pipe.text() == ""


def test_lines_of_many_requests_are_written_together_and_each_that_is_dropped_counts(pipe: Pipe) -> None:
    log = pipe.writer
    log.requests(
        [
            request_line(AnsweredRequest(time.time(), f"r-{number}", "POST", "/score", 200, 3.25))
            for number in range(100)
        ]
    )
    assert [line["request_id"] for line in pipe.lines()] == [f"r-{number}" for number in range(100)]
    with Path("/dev/full").open("wb") as full:
        dropped = Counter()
        log = ServerLog(full.fileno(), dropped)
        log.requests([request_line(AnsweredRequest(time.time(), "r", "POST", "/score", 200, 3.25))] * 100)
    assert dropped.number == 100


def test_a_reader_that_has_stopped_holds_nobody_up_and_lines_stay_whole(pipe: Pipe) -> None:
    assert not fcntl.fcntl(pipe.write_end, fcntl.F_GETFL) & os.O_NONBLOCK
    log = pipe.writer
    for _ in range(2000):  # nobody reads meanwhile: a write that waits for room never ends
        send(log)
        log.event("large", message="x" * 3000)
    assert not fcntl.fcntl(pipe.write_end, fcntl.F_GETFL) & os.O_NONBLOCK, "others share the flags"
    dropped = pipe.dropped.number
    read = pipe.lines()
    assert len(read) + dropped == 4000
    assert dropped > 3000
    send(log)
    assert len(pipe.lines()) == 1, "it goes on when there is room again"
    assert pipe.dropped.number == dropped


def test_a_closed_pipe_holds_nobody_up(pipe: Pipe) -> None:
    os.close(pipe.read_end)
    for _ in range(3):
        send(pipe.writer)
    assert pipe.dropped.number == 3


def test_a_pipe_that_was_closed_before_holds_nobody_up() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    dropped = Counter()
    send(ServerLog(write_end, dropped))
    assert dropped.number == 1
    os.close(write_end)
    send(ServerLog(write_end, dropped))
    assert dropped.number == 2


def test_a_pipe_that_cannot_be_opened_again_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a change of the user, or without /proc."""
    read_end, write_end = os.pipe()

    def refused(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        dropped = Counter()
        writer = ServerLog(write_end, dropped)
    for _ in range(100):
        writer.write(b"x" * 4000 + b"\n")
    assert 80 < dropped.number < 100
    os.close(read_end)
    os.close(write_end)


def test_a_socket_whose_reader_has_stopped_holds_nobody_up() -> None:
    """systemd's journal is one."""
    ours, theirs = socket.socketpair()
    dropped = Counter()
    log = ServerLog(ours.fileno(), dropped)
    for _ in range(5000):
        send(log)
    assert dropped.number > 0
    theirs.settimeout(0.2)
    found = b""
    try:
        while piece := theirs.recv(1 << 20):
            found += piece
    except TimeoutError:
        pass
    for _ in range(2):
        send(log)
    found += theirs.recv(1 << 20)
    whole = [line for line in found.split(b"\n") if line and line.endswith(b"}")]
    assert len(whole) + dropped.number == 5002
    assert all(json.loads(line)["event"] == "request" for line in whole)
    log.close()
    ours.close()
    theirs.close()


def test_a_full_disk_tears_one_line_at_most(tmp_path: Path) -> None:
    """The system refuses to let the file grow, which looks like a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "log"
    dropped = Counter()
    try:
        with path.open("ab") as stream:
            log = ServerLog(stream.fileno(), dropped)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
            for _ in range(10):
                send(log)
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            for _ in range(2):
                send(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    lines = path.read_bytes().splitlines()
    torn = [line for line in lines if not line.endswith(b"}")]
    assert len(torn) == 1
    assert len(lines) - 1 + dropped.number == 12
    assert all(json.loads(line) for line in lines[-2:])


def test_full_device() -> None:
    with Path("/dev/full").open("wb") as stream:
        dropped = Counter()
        writer = ServerLog(stream.fileno(), dropped)
        send(writer)
        writer.close()
    assert dropped.number == 1


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from vision_mlops.serving.telemetry.server_log import start_log\n"
        "for number in range(3):\n"
        "    if os.fork() == 0:\n"
        "        log = start_log()\n"
        "        for _ in range(300):\n"
        "            log.event('told', message=str(number) * 3500)\n"
        "        os._exit(0)\n"
        "for _ in range(3):\n"
        "    assert os.wait()[1] == 0\n"
    )
    for target in ("pipe", "file"):
        with (tmp_path / target).open("w+b") as stream:
            process = subprocess.Popen(
                [sys.executable, "-c", script], stderr=subprocess.PIPE if target == "pipe" else stream
            )
            _, errors = process.communicate(timeout=60)
            stream.seek(0)
            lines = (errors if target == "pipe" else stream.read()).splitlines()
        assert process.returncode == 0
        assert all(len(set(json.loads(line)["message"])) == 1 for line in lines)
        assert len(lines) == 900 if target == "file" else len(lines) > 10


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [("/health/ready", 503, "info"), ("/score", 503, "error"), ("/health/live", 500, "error"), ("/score", 429, "info")],
)
def test_a_probe_that_comes_before_the_model_is_no_error(path: str, status: int, level: str) -> None:
    line = request_line(AnsweredRequest(time.time(), "r", "GET", path, status, 1.0, error="not_ready"))
    assert json.loads(line + "}")["level"] == level
