"""Where local state lives: everything is written below one folder, ``outputs/`` unless MLOPS_HOME moves it."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Root of all local state, absolute. Read at each call, so that tests and shells can move it."""
    return Path(os.environ.get("MLOPS_HOME") or "outputs").expanduser().resolve()
