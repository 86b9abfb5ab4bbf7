"""The folder in which an emulator keeps its state: its content, its owner, and how to reach the running emulator."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from azureml_emulator.whole_files import write_whole

_WAIT_SECONDS = 20.0


class EmulatorError(Exception):
    """The emulator cannot do what it was told; the text says why, and how to fix it."""


class StateFolder:
    """A state folder.

    Args:
        path: Path of the folder; created by :meth:`take`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = FileLock(self.path / "emulator.lock")
        self._note = self.path / "emulator.json"

    @property
    def database(self) -> Path:
        """Return the file with all resources."""
        return self.path / "resources.db"

    @property
    def blobs(self) -> Path:
        """Return the folder that Azurite uses."""
        return self.path / "blobs"

    @property
    def work(self) -> Path:
        """Return the folder in which jobs and servers run."""
        return self.path / "work"

    @property
    def tls(self) -> Path:
        """Return the folder of the certificates."""
        return self.path / "tls"

    @property
    def azure_cli(self) -> Path:
        """Return the folder in which ``az`` keeps its sign-in, so that the sign-in of the user stays as it is."""
        return self.path / "az"

    def take(self) -> bool:
        """Take it for this process alone; return whether an emulator that did not end in order had it before.

        Raises:
            EmulatorError: it cannot be written, it contains something else, or another emulator has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_foreign()
            self._lock.acquire(timeout=0)
        except Timeout:
            raise EmulatorError(
                f"the state folder {self.path} is in use by {self._described()}\n"
                '  -> to use that one, run eval "$(mlops azure emulate --env)" with the same --state; for a second emulator,'
                " give another --state"
            ) from None
        except OSError as error:
            raise EmulatorError(
                f"the state folder {self.path} cannot be written: {error.strerror}\n  -> give another one with --state"
            ) from error
        return self._note.exists()

    def _refuse_foreign(self) -> None:
        """Accept an empty folder, or one of an emulator, which creates the lock before anything else."""
        found = sorted(item.name for item in self.path.iterdir())
        if found and not (self._lock_file.exists() or self.database.exists()):
            raise EmulatorError(
                f"the folder {self.path} contains something other than the state of an emulator: {', '.join(found[:3])}\n"
                "  -> give a new or empty folder with --state"
            )

    def announce(self, port: int) -> None:
        """Publish that an emulator runs here, and its address."""
        write_whole(self._note, json.dumps({"process": os.getpid(), "port": port}))

    def give_back(self) -> None:
        """Release it."""
        self._note.unlink(missing_ok=True)
        self._lock.release()

    def port(self) -> int:
        """Return the port of the emulator that has the folder; wait for one that is being started.

        Raises:
            EmulatorError: none runs.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while self._is_taken() and time.monotonic() < deadline:
            found = self._announced()
            if found and _runs(found["process"]):
                return int(found["port"])
            time.sleep(0.05)
        raise EmulatorError(
            f"no emulator is running with the state folder {self.path}\n"
            f"  -> start it with: mlops azure emulate --state {shlex.quote(str(self.path))}"
        )

    def _is_taken(self) -> bool:
        if not self._lock_file.exists():
            return False
        try:
            with self._lock.acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError as error:
            raise EmulatorError(f"the state folder {self.path} cannot be read: {error.strerror}") from error

    @property
    def _lock_file(self) -> Path:
        return Path(self._lock.lock_file)

    def _announced(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._note.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _described(self) -> str:
        found = self._announced()
        return (
            f"the emulator at http://127.0.0.1:{found['port']} (process {found['process']})" if found else "another one"
        )


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
