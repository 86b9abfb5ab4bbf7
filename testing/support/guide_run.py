"""A reader of guides: runs their blocks one after the other in one folder, as they stand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from testing.support.emulator_process import EmulatorProcess, plain_environment
from testing.support.guide_blocks import BESIDE, HERE, INSTALLATION, NEEDED, ROOT, Block, blocks_of

from azureml_emulator.client_variables import default_variables

CLONE = (
    ".amlignore",
    ".github",
    "ado_pipelines",
    "data/examples",
    "environments",
    "examples",
    "infrastructure",
    "src",
)
"""What guides name of the clone that a reader works in. It is linked, since the pipelines are those of the package."""
SECONDS = 240
_PORT = re.compile(r"--port (\d+)")


class GuideError(AssertionError):
    """A block that did not end well."""


class GuideRun:
    """The folder of a reader, the programs in other terminals, and the emulator in Azure's place.

    Args:
        folder: Of the reader's project; it is made.
        quick: Variables that make everything quick; nothing else differs from what a reader has.
    """

    def __init__(self, folder: Path, quick: Mapping[str, str]) -> None:
        self.folder = folder
        for name in CLONE:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(ROOT / name)
        kept = plain_environment()
        self.environment = {
            **kept,
            **quick,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MPLBACKEND": "Agg",
        }
        self._emulator: EmulatorProcess | None = None

    def run(self, document: Path) -> list[str]:
        """Run a guide; returns what its blocks have printed.

        Raises:
            GuideError: a block failed; it says which, and what was printed.
        """
        printed = []
        for state in self.folder.glob(".shell*"):
            state.unlink()
        blocks = blocks_of(document)
        with contextlib.ExitStack() as stack:
            if any(block.title == BESIDE for block in blocks):
                stack.enter_context(fixed_ports())
            for block in blocks:
                if not block.shell:
                    self._write(block)
                elif block.title == BESIDE:
                    stack.enter_context(self._beside(block))
                elif block.title not in (INSTALLATION, *NEEDED):
                    printed.append(self._shell(block))
        return printed

    def close(self) -> None:
        """End the emulator and all that it has started, and what was deployed on this machine."""
        if self._emulator is not None:
            self._emulator.stop()
        self._end(self._own())

    def _write(self, block: Block) -> None:
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")

    def _shell(self, block: Block) -> str:
        """Run a block in a terminal that stays open: the folder and the variables of the block before are kept.

        Those of a block on Azure are kept for the next such block only.
        """
        here = self.folder / ".shell"
        state, cloud = (here, {}) if block.title == HERE else (self.folder / ".shell-azure", self._cloud())
        script = "".join(
            [
                f"if [ -e {state} ]; then . {state}; elif [ -e {here} ]; then . {here}; fi\n",
                *(f"export {name}={shlex.quote(value)}\n" for name, value in cloud.items()),
                f'trap \'{{ export -p; printf "cd %q\\n" "$PWD"; }} > {state}\' EXIT\n',
                block.text,
            ]
        )
        began = time.monotonic()
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=SECONDS,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise GuideError(f"{block} did not end within {SECONDS} s\n{block.text}\n{error.output}") from None
        sys.stdout.write(f"{block}: {time.monotonic() - began:.1f} s\n")
        if done.returncode:
            raise GuideError(
                f"{block} ended with exit code {done.returncode}\n{block.text}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def _beside(self, block: Block) -> Iterator[None]:
        """Run a block in another terminal until the guide has ended, then press Ctrl-C there."""
        found = _PORT.search(block.text)
        if found is None:
            raise GuideError(f"{block}: give --port, so that the next block knows when it answers\n{block.text}")
        log = self.folder / f".terminal-{block.line}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=self.folder, env=self.environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            try:
                if not _answers(int(found[1]), process):
                    raise GuideError(f"{block} does not answer\n{block.text}\n{log.read_text()}")
                yield
                if process.poll() is not None:
                    raise GuideError(f"{block} has ended by itself\n{block.text}\n{log.read_text()}")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise GuideError(f"{block} does not end after Ctrl-C\n{log.read_text()}") from None

    def _cloud(self) -> dict[str, str]:
        """The variables of a reader who has a subscription; the emulator is started once for all."""
        if self._emulator is None:
            state = self.folder.with_name(f"{self.folder.name}-azure")
            self._emulator = EmulatorProcess(state, "--workspace", "mlw-vision-prod")
        # A subscription has no say in which registry is asked: the guides set that where it matters.
        settings = {name: value for name, value in default_variables().items() if name != "MLOPS_REGISTRY"}
        return {**settings, **self._emulator.variables}

    def _own(self) -> list[psutil.Process]:
        """Processes that work in the folder, such as those of a deployment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
        return found

    def _end(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        for process in psutil.wait_procs(processes, 20)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def fixed_ports() -> Iterator[None]:
    """Guides name fixed ports: only one of the processes that run tests may use them at a time."""
    with Path(tempfile.gettempdir(), f"vision-mlops-guides-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the process listens and answers, whatever it says, but not that it is not ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _listens(port, process.pid):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                    return True
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def _listens(port: int, pid: int) -> bool:
    """Whether it is this process, or one that it has started, that listens, and not a stranger."""
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(pid)
        for each in (started, *started.children(recursive=True)):
            for connection in each.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False
