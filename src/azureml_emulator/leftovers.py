"""Processes that an emulator has left running: found by a variable that all of them inherit, and ended.

``python -m azureml_emulator.leftovers FOLDER`` is the keeper: it does so as soon as its standard input is closed, which the
system does however the emulator ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from azureml_emulator.process_commands import MARK

_SECONDS = 10.0


def end_leftovers(folder: Path) -> int:
    """End the processes of the emulator with a state folder, except this one; return how many there were."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                process.terminate()
                found.append(process)
        except (psutil.Error, OSError):  # it belongs to another user, or has just ended
            continue
    _, alive = psutil.wait_procs(found, _SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, _SECONDS)
    return len(found)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_leftovers(Path(sys.argv[1]))
