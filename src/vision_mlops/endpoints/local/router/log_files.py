"""Log files of servers: kept small, and read from the end."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.endpoints.local.router.endpoint_state import LOGS

_LOG_BYTES = 16 * 2**20


def log_path(folder: Path, deployment: str) -> Path:
    """Return the log file of a deployment's server."""
    return folder / LOGS / f"{deployment}.log"


def former_log(log: Path) -> Path:
    """Return the file that holds what was logged before."""
    return log.with_name(f"{log.name}.1")


def remove_log(log: Path) -> None:
    """Remove a log and the former one beside it, as far as they exist."""
    for path in (log, former_log(log)):
        path.unlink(missing_ok=True)


def bound_log(log: Path) -> None:
    """Start a log again if it has become large, and keep one former log beside it.

    Its writers have it open to append, and continue in the empty file; what they write while it is copied is lost.
    """
    try:
        if log.stat().st_size < _LOG_BYTES:
            return
        former_log(log).write_bytes(log.read_bytes())
        with log.open("r+b") as stream:
            stream.truncate()
    except OSError:
        return  # a full disk: it is tried again in a second


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log and of the former one beside it; empty if neither exists."""
    found: list[str] = []
    for path in (log, former_log(log)):
        if len(found) < lines and path.is_file():
            found = [*path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines + len(found) :], *found]
    return "\n".join(found)
