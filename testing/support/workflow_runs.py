"""Workflows of GitHub, really run on this machine: by act, without Docker, and with the environment of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def tool(name: str) -> str:
    """A program that requirements/dev.txt brings."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    assert found, f"{name} is not installed: make setup"
    return found


@dataclass
class WorkflowMachine:
    """A machine for workflows.

    Attributes:
        folder: For copies of the repository, and all that is kept.
        variables: Of the environment of the repository: ``vars``.
        environment: Of every step, such as the way to the services.
        root: The repository whose workflows they are.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT

    def run(
        self, workflow: str, event: str, *words: str, payload: Mapping[str, Any] | None = None, seconds: float = 600
    ) -> tuple[int, str]:
        """Run a workflow; its exit code, and what was printed.

        Args:
            workflow: Its file.
            event: That starts it.
            words: More options of act, such as ``-j JOB`` and ``--input NAME=VALUE``.
            payload: Of the event.
            seconds: Most that it may take.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["-W", f".github/workflows/{workflow}", "-P", "ubuntu-24.04=-self-hosted"]
        for name, value in self.variables.items():
            options += ["--var", f"{name}={value}"]
        for name, value in {"VENV": str(self._packages()), **self.environment}.items():
            options += ["--env", f"{name}={value}"]
        if payload is not None:
            file = self.folder / "event.json"
            file.write_text(json.dumps(payload))
            options += ["-e", str(file)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "MLOPS", "MLFLOW"))}
        done = subprocess.run(
            [tool("act"), event, *options, *words],
            cwd=self.root,
            env={**kept, "XDG_CACHE_HOME": str(self.folder / "cache")},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return done.returncode, _COLOUR.sub("", done.stdout + done.stderr)

    def _packages(self) -> Path:
        """The packages of this environment, under a name of their own that make takes for new."""
        place = self.folder / "venv"
        if not place.exists():
            place.mkdir()
            for item in Path(sys.prefix).iterdir():
                if item.name != ".installed":
                    (place / item.name).symlink_to(item)
        stamp = place / ".installed"
        stamp.touch()
        later = stamp.stat().st_mtime + 24 * 3600
        os.utime(stamp, (later, later))
        return place
