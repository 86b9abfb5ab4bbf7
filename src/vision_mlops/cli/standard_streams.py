"""Standard input, output and error as commands need them: open, and able to take any character."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys

BROKEN_PIPE = 141
"""Exit code of a program whose reader has gone, as a shell reports the end by SIGPIPE."""


_stdout: list[tuple[int, int]] = []
"""The file that standard output is, as device and number."""


def prepare() -> None:
    """Open what was closed, on nothing, and write characters that the terminal cannot show as escapes.

    A closed stream leaves its descriptor to the next file that is opened, which would then get what is printed.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            if os.open(os.devnull, os.O_RDWR) == descriptor:
                stream = open(descriptor, "r" if descriptor == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123
                setattr(sys, name, stream)
        elif descriptor and isinstance(stream, io.TextIOWrapper):
            # What Typer prints is UTF-8 where the terminal claims ASCII: then all is.
            plain = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(
                encoding="utf-8" if plain else None, errors="backslashreplace" if stream.errors == "strict" else None
            )
    _stdout[:] = [_file_of(1)]


def finish() -> None:
    """Write what waits to be written; what cannot be is dropped, or Python would complain of it after the last line.

    Raises:
        BrokenPipeError: whoever read it has gone, as ``head`` has once it has enough.
        OSError: the disk is full.
    """
    problems = []
    for stream in (sys.stdout, sys.stderr):
        try:
            getattr(stream, "wrapped", stream).flush()
        except OSError as error:
            problems.append(error)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if problems:
        raise problems[0]
    # Typer hides a broken pipe behind streams of its own, and Rich puts nothing in its place.
    if (hasattr(sys.stdout, "wrapped") and _has_no_reader()) or _file_of(1) not in _stdout:
        raise BrokenPipeError


def _has_no_reader() -> bool:
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _file_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
