"""Runs the processes of one step: a command in bash, whose output goes to files, and which ends as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from vision_mlops.core.errors import JobError
from vision_mlops.jobs.local.environments.step_containers import remove_containers
from vision_mlops.jobs.local.state.job_state import started_at
from vision_mlops.jobs.local.steps.step_variables import OF_NODE, RUN_ID

TIMED_OUT = 124  # exit code of the command timeout
_POLITE_SECONDS = 5.0  # after which SIGTERM follows: what a script starts in the background ignores SIGINT
_GRACE_SECONDS = 15.0
_MOST_BYTES = 1 << 16


@dataclass
class StepProcess:
    """Runs a command once, or several times side by side as a launcher of distributed training does.

    Attributes:
        command: Text for ``bash -c``, or words that are run as they are.
        cwd: Working folder.
        environment: The whole environment of the process.
        folder: Folder of stdout.log and stderr.log.
        nodes: Number of nodes of a cluster that are simulated; all of them are this machine.
        processes: Number of processes on each node. If ``distributed``, each gets RANK, LOCAL_RANK, NODE_RANK, WORLD_SIZE,
            LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
        distributed: Whether to start it as a distributed training.
        timeout: Seconds until it is ended.
        container: Label of the containers that the command runs in, which outlive it if it is killed.
    """

    command: str | list[str]
    cwd: Path
    environment: Mapping[str, str]
    folder: Path
    nodes: int = 1
    processes: int = 1
    distributed: bool = False
    timeout: float | None = None
    container: str = ""
    slots: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self.groups: list[dict[str, Any]] = []  # ids and start times of the processes, each the leader of its group
        self._exit: int | None = None
        self._failed: tuple[int, int] | None = None  # rank and exit code of the first that failed
        self._ending = 0.0  # when they were asked to end
        self._terminated = False
        self._began = 0.0
        self._timed_out = False

    def start(self) -> None:
        """Start the processes.

        Raises:
            JobError: the system cannot start them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["bash", "-c", self.command] if isinstance(self.command, str) else self.command
        port = str(_free_port()) if self.distributed else ""
        ranks = self.nodes * self.processes
        self._began = time.monotonic()
        for rank in range(ranks):
            environment = self.environment
            if self.distributed:
                environment = {**environment, **_rank_variables(rank, ranks, self.processes, port)}
            with self._log("stdout", rank) as out, self._log("stderr", rank) as error:
                try:
                    self._running.append(
                        subprocess.Popen(
                            command, cwd=self.cwd, env=environment, stdin=subprocess.DEVNULL,
                            stdout=out, stderr=error, start_new_session=True,
                        )
                    )  # fmt: skip
                except (OSError, ValueError) as problem:  # ValueError: a zero byte, or a variable's name with a =
                    self.kill()
                    hint = "check the length of its command, and its environment variables"
                    raise JobError(f"the step cannot be started: {problem}", hint) from problem
        mark = {"container": self.container} if self.container else {}
        self.groups = [{"pid": item.pid, "started": started_at(item.pid) or 0, **mark} for item in self._running]

    def _log(self, stream: str, rank: int) -> BinaryIO:
        return (self.folder / log_name(stream, rank)).open("ab")

    def poll(self, free: int = 0) -> int | None:
        """Return the exit code once all processes have ended, else None. When one fails, the others are ended."""
        if self._exit is not None:
            return self._exit
        codes = [process.poll() for process in self._running]
        if self._failed is None:
            self._failed = next(((rank, code) for rank, code in enumerate(codes) if code), None)
        if self.timeout and not self._ending and time.monotonic() - self._began > self.timeout:
            self._timed_out = True
            self.end()
        if any(codes) and None in codes and not self._ending:
            self.end()
        ending = time.monotonic() - self._ending if self._ending else 0.0
        if ending > _GRACE_SECONDS:
            self.kill()
        elif ending > _POLITE_SECONDS and not self._terminated:
            self._terminated = True
            self._signal(signal.SIGTERM)
        if None in codes:
            return None
        self._exit = TIMED_OUT if self._timed_out else _exit_code(self._failed[1]) if self._failed else 0
        self._signal(signal.SIGKILL)  # what the command left in the background
        if self._ending:
            self._remove_containers()
        return self._exit

    @property
    def failed_rank(self) -> int:
        """The rank of the process that failed first and made the others end; 0 if none failed."""
        return self._failed[0] if self._failed else 0

    @property
    def message(self) -> str:
        """A note that the timeout ended it; empty if it did not."""
        return f"ended by its timeout of {self.timeout} s" if self._timed_out else ""

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ask the processes to end, as Ctrl-C does; :meth:`poll` terminates them after 5 s, and kills them after 15 s."""
        self._ending = self._ending or time.monotonic()
        self._signal(how)

    def kill(self) -> None:
        """End them at once."""
        self._signal(signal.SIGKILL)
        self._remove_containers()

    def _remove_containers(self) -> None:
        if self.container:
            remove_containers(self.container)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)


def log_name(stream: str, rank: int = 0) -> str:
    """Return the name of the file that a process of a step writes its ``stdout`` or ``stderr`` to."""
    return f"{stream}.rank{rank}.log" if rank else f"{stream}.log"


def end_orphans(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Kill processes that an engine left behind when it ended; ids that now belong to other processes are not touched.

    Returns:
        Whether there were any.
    """
    found = False
    for group in groups:
        if group.get("container"):
            remove_containers(group["container"])
        pid, started = group["pid"], group["started"]
        leads = started and started_at(pid) == started
        if leads or (started_at(pid) is None and any(_is_step(member) for member in _members(pid))):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            deadline = time.monotonic() + 5
            while _members(pid) and time.monotonic() < deadline:
                time.sleep(0.02)
            found = True
    return found


class LogTail:
    """Reads the whole lines that were added to a file since the last call, or all of them with ``from_start``."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._position = path.stat().st_size if path.is_file() and not from_start else 0
        self._rest = b""

    def lines(self, *, last: bool = False) -> list[str]:
        """Return new lines without their ends, with ``last`` including one that has no end yet."""
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
        # A progress bar overwrites itself: only its last state counts.
        return [line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace") for line in whole]


def _rank_variables(rank: int, world: int, of_node: int, port: str) -> dict[str, str]:
    """Return the variables that Azure ML sets for each process of a distributed training."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank % of_node), "NODE_RANK": str(rank // of_node), "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(of_node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "AZUREML_PROCESS_NAME": f"rank_{rank}", **dict.fromkeys(OF_NODE, str(rank // of_node)),
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exit_code(code: int) -> int:
    """Return the exit code as a shell does: 128 plus the number of the signal."""
    return code if code >= 0 else 128 - code


def _members(group: int) -> list[int]:
    """Return the ids of the running processes of a group, whose leader may have ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, member_of = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # it has ended by now
            continue
        if int(member_of) == group and state not in "ZX":
            found.append(int(folder.name))
    return found


def _is_step(pid: int) -> bool:
    """Return whether a process was started as part of a step."""
    try:
        return f"{RUN_ID}=".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
