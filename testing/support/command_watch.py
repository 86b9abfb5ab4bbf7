"""Runs commands where whatever they write outside of outputs/, and whatever host they ask for, is seen.

The environment of the commands has fresh folders for everything that a library may take for its own, and a ``sitecustomize``
that every Python process below imports: it refuses all hosts but this machine, and takes down which was asked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PLACES = {
    "HOME": "home",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "xdg-cache",
    "XDG_CONFIG_HOME": "xdg-config",
    "XDG_DATA_HOME": "xdg-data",
    "XDG_STATE_HOME": "xdg-state",
    "XDG_RUNTIME_DIR": "xdg-run",
}
_SITE = """
import os, sys

def _refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "0.0.0.0", "::", "::1") and not host.startswith("127."):
        with open(os.environ["WATCH_HOSTS"], "a") as stream:
            stream.write(f"{host} {' '.join(sys.argv[:3])}\\n")
        raise OSError(101, "Network is unreachable")

sys.addaudithook(_refuse)
"""
_FOREIGN = ("AZURE", "MLFLOW", "MLOPS", "MPL", "TORCH", "HF_", "DO_NOT_TRACK", "CI", "TF_BUILD", "KUBE", "PYTEST")
"""Start of variables that would tell a library what to do."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What one command did."""

    code: int
    text: str
    seconds: float


class CommandWatch:
    """Commands in one working folder, ``work`` below ``root``; they write to ``outputs`` and ``named`` in it."""

    def __init__(self, root: Path, **more: str) -> None:
        self.work = root / "work"
        self.inputs: set[str] = set()
        self.named = self.work / "named"
        self.named.mkdir(parents=True)
        self._places = {variable: root / name for variable, name in _PLACES.items()}
        self._hosts = root / "hosts"
        site = root / "site"
        for folder in (site, *self._places.values()):
            folder.mkdir()
        (site / "sitecustomize.py").write_text(_SITE)
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self.environment = {
            **ours,
            **{variable: str(folder) for variable, folder in self._places.items()},
            "PYTHONPATH": str(site),
            "WATCH_HOSTS": str(self._hosts),
            **more,
        }

    def start(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """A command that runs until it is told to end."""
        with log.open("wb") as stream:
            return subprocess.Popen(
                self._command(words), cwd=self.work, env=self.environment, stdout=stream, stderr=stream
            )

    def run(self, words: Sequence[str], timeout_s: float = 120) -> Ended:
        """Run ``mlops`` with these words to its end, without anything on standard input."""
        begun = time.monotonic()
        done = subprocess.run(
            self._command(words), cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout.decode(), time.monotonic() - begun)

    def traces(self) -> list[str]:
        """What lies where nothing should, and which hosts were asked for, since the last call."""
        found = [f"{variable}: {path.relative_to(folder)}" for variable, folder in self._places.items()
                 for path in sorted(folder.rglob("*"))]  # fmt: skip
        found += [f"in the working folder: {path.name}" for path in sorted(self.work.iterdir())
                  if path.name not in {*self.inputs, "named", "outputs"}]  # fmt: skip
        if self._hosts.exists():
            found += [f"host: {line}" for line in self._hosts.read_text().splitlines()]
            self._hosts.unlink()
        for folder in self._places.values():
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        return found

    def keep_inputs(self) -> None:
        """What lies in the working folder now may stay there."""
        self.inputs = {path.name for path in self.work.iterdir()}

    @staticmethod
    def _command(words: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "vision_mlops", *words]
