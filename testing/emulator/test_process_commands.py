"""The two seams: whoever starts the emulator says what runs a job and what serves a container."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from azureml_emulator.container_groups.container_process import ContainerProcess
from azureml_emulator.container_groups.registry_images import RegistryImage
from azureml_emulator.jobs.job_executor import CommandExecutor, JobOrder
from azureml_emulator.process_commands import ProcessCommands, machine_environment

RUNNER = """\
import json, os, sys
from pathlib import Path
verb, definition, _, name, *rest = sys.argv[1:]
folder = Path(os.environ["MLOPS_HOME"], "jobs", name)
folder.mkdir(parents=True)
made = folder / "made.txt"
made.write_text(" ".join([verb, Path(definition).name, *rest]))
(folder / "state.json").write_text(json.dumps({"status": "Completed", "outputs": {"text": str(made)}}))
"""
SERVER = """\
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
print(sys.argv[1], Path(os.environ["KEY_FILE"]).read_text(), os.environ["WORD"], flush=True)
Path(sys.argv[sys.argv.index("--port-file") + 1]).write_text(str(server.server_port))
server.serve_forever()
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def script(folder: Path, content: str) -> tuple[str, ...]:
    file = folder / "tool.py"
    file.write_text(content)
    return (sys.executable, str(file))


def test_a_job_is_run_by_the_given_command(tmp_path: Path) -> None:
    executor = CommandExecutor(ProcessCommands(job=script(tmp_path, RUNNER)))
    order = JobOrder("first", tmp_path / "job.yml", tmp_path, tmp_path / "home", machine_environment())
    execution = executor.start(order)
    wait_for(lambda: execution.state().status in ("Completed", "Failed"))
    state = execution.state()
    assert state.status == "Completed", state.message
    assert state.outputs["text"].read_text() == "run job.yml --on local"


def test_a_command_that_cannot_run_a_job_fails_it_with_its_words(tmp_path: Path) -> None:
    executor = CommandExecutor(ProcessCommands(job=(sys.executable, "-c", "raise SystemExit('no such thing')")))
    order = JobOrder("first", tmp_path / "job.yml", tmp_path, tmp_path / "home", machine_environment())
    execution = executor.start(order)
    wait_for(lambda: execution.state().status == "Failed")
    assert execution.state().message == "the runner ended with exit code 1:\nno such thing"


@pytest.mark.parametrize(("mount", "path"), [("/keys", "/keys/primary"), ("/keys/", "/keys/primary")])
def test_a_container_is_served_by_the_given_command_and_finds_its_volumes(
    tmp_path: Path, mount: str, path: str
) -> None:
    definition = {
        "properties": {
            "image": "served:1",
            "volumeMounts": [{"name": "keys", "mountPath": mount}],
            "environmentVariables": [{"name": "KEY_FILE", "value": path}, {"name": "WORD", "value": "/keyside"}],
        }
    }
    volumes = [{"name": "keys", "secret": {"primary": base64.b64encode(b"secret").decode()}}]
    images = {"served:1": RegistryImage(bundle=tmp_path / "model")}
    commands = ProcessCommands(serve=script(tmp_path, SERVER))
    container = ContainerProcess(definition, volumes, images, "", commands, tmp_path / "container")
    try:
        wait_for(lambda: container.is_up)
        assert container.view()["restartCount"] == 0, container.log()
        assert container.log().split() == [str(tmp_path / "model"), "secret", "/keyside"]
    finally:
        container.stop()


def test_the_defaults_are_the_commands_of_this_project() -> None:
    commands = ProcessCommands()
    tool = [sys.executable, "-m", "vision_mlops"]
    assert commands.job_line(Path("job.yml"), "a") == [*tool, "job", "run", "job.yml", "--name", "a", "--on", "local"]
    assert commands.deployment_line(Path("port")) == [*tool, "serve", "--port-file", "port"]
    assert commands.group_line(Path("model"), Path("port")) == [
        *tool, "serve", "model", "--host", "127.0.0.1", "--port", "0", "--port-file", "port"
    ]  # fmt: skip
