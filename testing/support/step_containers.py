"""A container engine that isolates nothing but variables, for steps of jobs: it notes its calls and runs the commands.

    python testing/support/step_containers.py STATE_FOLDER run --rm ... IMAGE ...

A container outlives the command that started it where that is killed, as with Docker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

WITH_VALUE = {
    "--network", "--label", "--workdir", "--mount", "--env", "--user", "--shm-size", "--entrypoint", "--gpus", "--ulimit",
}  # fmt: skip
FLAGS = {"--rm", "--init"}


def main() -> int:
    state, command, *rest = Path(sys.argv[1]), *sys.argv[2:]
    state.mkdir(exist_ok=True)
    with (state / "calls.jsonl").open("a") as stream:
        stream.write(json.dumps([command, *rest]) + "\n")
    images, containers = state / "images", state / "containers"
    images.mkdir(exist_ok=True)
    containers.mkdir(exist_ok=True)
    if command == "image":
        return inspect(images / rest[1].replace("/", "_"), {"Id": "sha256:1"}, f"Error: No such image: {rest[1]}")
    if command == "container":
        facts = {"Id": rest[1], "Name": rest[1], "State": {"Status": "running"}}
        return inspect(containers / rest[1], facts, f"Error: No such container: {rest[1]}")
    if command == "ps":
        label = rest[rest.index("--filter") + 1].removeprefix("label=")
        print("\n".join(item.name for item in containers.iterdir() if json.loads(item.read_text())["label"] == label))
    if command == "rm":
        os.killpg(json.loads((containers / rest[-1]).read_text())["pid"], signal.SIGKILL)
        (containers / rest[-1]).unlink()
    if command == "pull":
        (images / rest[0].replace("/", "_")).touch()
    if command == "build":
        return build(images, rest)
    return run(containers, rest) if command == "run" else 0


def inspect(file: Path, facts: dict[str, Any], missing: str) -> int:
    print(json.dumps([facts]) if file.exists() else missing, file=sys.stdout if file.exists() else sys.stderr)
    return 0 if file.exists() else 1


def build(images: Path, rest: list[str]) -> int:
    dockerfile, tag = Path(rest[rest.index("-f") + 1]), rest[rest.index("-t") + 1]
    print(dockerfile.read_text())
    if "RUN false" in dockerfile.read_text():
        print('ERROR: process "false" did not complete successfully: exit code: 1', file=sys.stderr)
        return 1
    (images / tag.replace("/", "_")).touch()
    return 0


def run(containers: Path, rest: list[str]) -> int:
    options: dict[str, list[str]] = {}
    while rest[0].startswith("-"):
        name = rest.pop(0)
        options.setdefault(name, []).append(rest.pop(0) if name in WITH_VALUE else "")
        if name not in WITH_VALUE | FLAGS:
            print(f"unknown flag: {name}", file=sys.stderr)
            return 125
    variables = {"PATH": os.environ["PATH"]}
    for item in options["--env"]:
        name, mark, value = item.partition("=")
        if mark or name in os.environ:
            variables[name] = value if mark else os.environ[name]
    words = [*options["--entrypoint"], *rest[1:]]
    process = subprocess.Popen(words, cwd=options["--workdir"][0], env=variables, start_new_session=True)
    file = containers / str(process.pid)
    file.write_text(json.dumps({"pid": process.pid, "label": options["--label"][0]}))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.killpg(process.pid, number))
    code = process.wait()
    file.unlink(missing_ok=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
