"""The process or processes of one step: a command in bash, its output in files, ended as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from vision_mlops.exceptions import JobError
from vision_mlops.runner.state import started_at

TIMED_OUT = 124  # as the command timeout says it
_GRACE_SECONDS = 15.0
_MOST_BYTES = 1 << 16


class StepProcess:
    """Runs a command once, or several times side by side as a launcher of distributed training does.

    Args:
        command: For ``bash -c``, or words that are run as they are.
        cwd: Working folder.
        environment: Of the process, whole.
        folder: Where stdout.log and stderr.log go.
        processes: How many; each gets RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT
            where ``distributed``.
        distributed: Whether it is started as a distributed training.
        timeout: Seconds until it is ended.
    """

    def __init__(
        self,
        command: str | list[str],
        cwd: Path,
        environment: Mapping[str, str],
        folder: Path,
        *,
        processes: int = 1,
        distributed: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.folder = folder
        self._command = ["bash", "-c", command] if isinstance(command, str) else command
        self._cwd = cwd
        self._environment = dict(environment)
        self._ranks = processes
        self._distributed = distributed
        self._timeout = timeout
        self._running: list[subprocess.Popen[bytes]] = []
        self._exit: int | None = None
        self._ending = 0.0  # when the gentle end was asked for
        self._began = 0.0
        self.timed_out = False

    def start(self) -> None:
        """Start the processes.

        Raises:
            JobError: the system cannot start them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        port = str(_free_port()) if self._distributed else ""
        self._began = time.monotonic()
        for rank in range(self._ranks):
            environment = self._environment
            if self._distributed:
                environment = {**environment, **_rank_variables(rank, self._ranks, port)}
            with self._log("stdout", rank) as out, self._log("stderr", rank) as error:
                try:
                    self._running.append(
                        subprocess.Popen(
                            self._command, cwd=self._cwd, env=environment, stdin=subprocess.DEVNULL,
                            stdout=out, stderr=error, start_new_session=True,
                        )
                    )  # fmt: skip
                except OSError as problem:
                    self.kill()
                    raise JobError(f"the step cannot be started: {problem}", "is its command too long?") from problem

    def _log(self, stream: str, rank: int) -> BinaryIO:
        return (self.folder / (f"{stream}.rank{rank}.log" if rank else f"{stream}.log")).open("ab")

    @property
    def groups(self) -> list[dict[str, int]]:
        """Ids and starts of the processes, each the leader of its group."""
        return [{"pid": process.pid, "started": started_at(process.pid) or 0} for process in self._running]

    def poll(self) -> int | None:
        """Exit code once all processes have ended, else None. When one fails, the others are ended."""
        if self._exit is not None:
            return self._exit
        codes = [process.poll() for process in self._running]
        if self._timeout and not self._ending and time.monotonic() - self._began > self._timeout:
            self.timed_out = True
            self.end()
        if any(codes) and None in codes and not self._ending:
            self.end()
        if self._ending and time.monotonic() - self._ending > _GRACE_SECONDS:
            self.kill()
        if None in codes:
            return None
        failed = [code for code in codes if code]
        self._exit = TIMED_OUT if self.timed_out else _exit_code(failed[0]) if failed else 0
        self._signal(signal.SIGKILL)  # what the command left in the background
        return self._exit

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ask the processes to end, as Ctrl-C does; :meth:`poll` kills them where they have not after 15 seconds."""
        self._ending = self._ending or time.monotonic()
        self._signal(how)

    def kill(self) -> None:
        """End them at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)


def end_orphans(groups: Iterable[Mapping[str, int]]) -> None:
    """Kill processes that a runner which is no more has left behind; ids that now belong to others are left alone."""
    for group in groups:
        pid = group["pid"]
        if group["started"] and started_at(pid) == group["started"]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            deadline = time.monotonic() + 5
            while started_at(pid) == group["started"] and time.monotonic() < deadline and not _zombie(pid):
                time.sleep(0.02)


class LogTail:
    """Whole lines that were added to a file since the last look, or with ``from_start`` all of them."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._position = path.stat().st_size if path.is_file() and not from_start else 0
        self._rest = b""

    def lines(self, *, last: bool = False) -> list[str]:
        """New lines without their ends; with ``last`` also one that has no end yet."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._position)
                content = stream.read(_MOST_BYTES if not last else -1)
        except FileNotFoundError:
            return []
        self._position += len(content)
        *whole, self._rest = (self._rest + content).split(b"\n")
        if last and self._rest:
            whole.append(self._rest)
            self._rest = b""
        # A progress bar draws over itself: its last state is what counts.
        return [line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace") for line in whole]


def _rank_variables(rank: int, world: int, port: str) -> dict[str, str]:
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exit_code(code: int) -> int:
    """As a shell says it: 128 and the signal's number."""
    return code if code >= 0 else 128 - code


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True
