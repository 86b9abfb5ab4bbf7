"""The machine that an agent works on: its folders, its environment, the repository that it checks out, and its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import psutil

_MARK = "PIPELINE_AGENT_JOB"


@dataclass
class AgentMachine:
    """Where jobs run; each has a folder of its own.

    Attributes:
        sources: The repository, as it is in the working tree.
        root: Folder for the jobs.
        environment: Of every process, such as PATH and the way to the services.
        patience: Seconds after the first and the second signal to a step that is cancelled; the agent's are 7.5 and 2.5.
        replaced: Texts by path that a checkout has instead of those of the sources; programs begin with ``#!``.
    """

    sources: Path
    root: Path
    environment: Mapping[str, str]
    patience: tuple[float, float] = (7.5, 2.5)
    replaced: Mapping[str, str] = field(default_factory=dict)

    def check_out(self, target: Path) -> None:
        """Clone the repository, with what is changed in it and not committed; environments are linked, not made anew."""
        _git(self.sources, "clone", "--quiet", "--shared", str(self.sources), str(target))
        listed = _git(self.sources, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        for entry in filter(None, listed.split("\0")):
            name = entry[3:]
            source, copy = self.sources / name, target / name
            if source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
            elif copy.exists():
                copy.unlink()
        for environment in self.sources.glob(".venv*"):
            _link(environment, target / environment.name)
        for name, text in self.replaced.items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            if text.startswith("#!"):
                file.chmod(0o755)

    def run(self, script: str, job: Running) -> int:
        """Run a script in a shell; returns its exit status, negative where it was ended.

        Raises:
            TimeoutError: it took too long, and was ended.
        """
        file = job.folder / f"{time.monotonic_ns()}.sh"
        file.write_text(script, encoding="utf-8")
        # Into a file, not a pipe: what a step leaves behind may hold it open.
        log = file.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", *job.options, str(file)], cwd=job.directory,
                env={**job.environment, _MARK: job.mark}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + job.seconds
        with log.open(encoding="utf-8", errors="replace") as lines:
            while process.poll() is None:
                _read(lines, job.line)
                late = time.monotonic() > end
                if late or job.canceled.is_set():
                    self._end(process)
                    _read(lines, job.line, whole=True)
                    if late:
                        raise TimeoutError
                    return -signal.SIGINT
                time.sleep(0.02)
            _read(lines, job.line, whole=True)
        return process.returncode

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """As the agent does: two signals to the shell alone, then its end. What it started may go on until the job ends."""
        for number, seconds in zip((signal.SIGINT, signal.SIGTERM), self.patience, strict=True):
            process.send_signal(number)
            try:
                process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()

    def end_orphans(self, job: str) -> None:
        """End what the steps of a job have left behind, as the agent does when the job is over."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == job:
                    process.kill()
            except (psutil.Error, OSError):
                continue


@dataclass
class Running:
    """How a script of a job runs: where, with what, for how long, and who reads what it writes."""

    mark: str
    folder: Path
    directory: Path
    environment: Mapping[str, str]
    seconds: float
    canceled: threading.Event
    line: Callable[[str], None]
    options: tuple[str, ...] = ()


def _read(lines: TextIO, line: Callable[[str], None], whole: bool = False) -> None:
    """Hand over the lines that are finished; with ``whole`` the last one as it is."""
    while True:
        place = lines.tell()
        text = lines.readline()
        if not text or not (text.endswith("\n") or whole):
            lines.seek(place)
            return
        line(text)


def _link(environment: Path, target: Path) -> None:
    """An environment with the packages of another one, younger than the checkout, so that make does not install it again."""
    target.mkdir(exist_ok=True)
    for item in environment.iterdir():
        if item.name != ".installed" and not (target / item.name).exists():
            (target / item.name).symlink_to(item)
    if (environment / ".installed").exists():
        (target / ".installed").touch()
        os.utime(target / ".installed")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
