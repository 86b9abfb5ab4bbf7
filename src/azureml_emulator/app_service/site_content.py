"""What is deployed from a zip: unpacked into a separate folder, with a virtual environment of its requirements."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from azureml_emulator.process_commands import machine_environment

_COMPLETE = "complete"
_LONGEST_SECONDS = 300


class BuildFailedError(Exception):
    """A zip cannot be deployed; the text says why."""


@dataclass(frozen=True)
class SiteContent:
    """A folder with the files of a zip, and the virtual environment that they run in."""

    folder: Path
    environment: Path


class SiteEnvironments:
    """Virtual environments by the content of their ``requirements.txt``; an existing one is used again.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def of(self, requirements: str, say: Callable[[str], None]) -> Path:
        """Return the environment for some requirements.

        Raises:
            BuildFailedError: they cannot be installed.
        """
        digest = hashlib.sha256(f"{sys.version}\n{requirements}".encode()).hexdigest()[:16]
        folder = self._folder / digest
        with self._lock:
            if (folder / _COMPLETE).exists():
                say("Using the virtual environment of the same requirements")
                return folder
            say("Creating virtual environment...")
            self._run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
            if requirements.strip():
                say("Running pip install...")
                file = folder / "requirements.txt"
                file.write_text(requirements, encoding="utf-8")
                python = str(folder / "bin" / "python")
                self._run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "-r", str(file)])
            (folder / _COMPLETE).touch()
        return folder

    @staticmethod
    def _run(command: list[str]) -> None:
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, env=machine_environment()
            )
        except subprocess.TimeoutExpired as error:
            raise BuildFailedError(f"the build took longer than {_LONGEST_SECONDS} s") from error
        if ended.returncode:
            raise BuildFailedError((ended.stderr or ended.stdout).strip()[-2000:])


def unpack(content: bytes, folder: Path) -> None:
    """Write the files of a zip into a new folder.

    Raises:
        BuildFailedError: it is not a zip, or names a file outside the folder.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts:
                    raise BuildFailedError(f"{name!r} is outside the site")
            folder.mkdir(parents=True)
            archive.extractall(folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise BuildFailedError(f"the package is not a zip: {error}") from error
