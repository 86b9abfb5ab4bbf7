"""The process that makes an environment ready before a step starts: ``python -m ... build_process FILE``.

It is a process of the step, so that its log, Ctrl-C and the end of the job mean to it what they mean to the step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vision_mlops.core.errors import MlopsError
from vision_mlops.core.files import atomic_write
from vision_mlops.jobs.local.environments.virtual_environment import VirtualEnvironment

FAILURE = "environment-error.txt"
"""Beside the file that says what to build: why that failed, in one line."""


def write_order(file: Path, environment: VirtualEnvironment) -> list[str]:
    """Write down what is to be built; returns the command that builds it."""
    order = {"content": environment.content, "lines": environment.lines, "base": str(environment.base),
             "folder": str(environment.folder)}  # fmt: skip
    file.with_name(FAILURE).unlink(missing_ok=True)
    atomic_write(file, json.dumps(order, indent=2) + "\n")
    return [sys.executable, "-m", __name__, str(file)]


def main(file: Path) -> int:
    """Build what a file says."""
    order = json.loads(file.read_text(encoding="utf-8"))
    environment = VirtualEnvironment(
        order["content"], tuple(order["lines"]), Path(order["base"]), Path(order["folder"])
    )
    try:
        environment.build(lambda line: print(line, flush=True))  # noqa: T201 - the log of the step
    except MlopsError as error:
        atomic_write(file.with_name(FAILURE), f"{error.message}\n{error.hint}\n")
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    try:
        code = main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
