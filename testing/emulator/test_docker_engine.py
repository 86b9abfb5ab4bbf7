"""The Docker of a compute instance over its own HTTP interface, with another program in place of the one that serves."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.docker_engine.docker_engine import DockerEngine, EngineSocket
from azureml_emulator.docker_engine.engine_images import EngineImages
from azureml_emulator.docker_engine.engine_routes import engine_app
from azureml_emulator.process_commands import ProcessCommands
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError

SERVER = """\
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
print("up", *sys.argv[1:], os.environ.get("WORD"), flush=True)
if os.environ.get("CODE"):
    raise SystemExit(int(os.environ["CODE"]))

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Path(os.environ["MLOPS_BUNDLE"], "word.txt").read_bytes())

HTTPServer((os.environ["MLOPS_HOST"], int(os.environ["MLOPS_PORT"])), Handler).serve_forever()
"""


class Client:
    """Speaks the interface over the socket of an engine."""

    def __init__(self, address: str) -> None:
        self._path = address.removeprefix("unix://")

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._path)
        with closing(connection):
            content = body if isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
        try:
            return response.status, json.loads(raw)
        except ValueError:
            return response.status, raw

    def create(self, name: str, **body: Any) -> int:
        return self.ask("POST", f"/v1.43/containers/create?name={name}", {"Image": "example/a", **body})[0]

    def state(self, name: str) -> Json:
        found: Json = self.ask("GET", f"/containers/{name}/json")[1]
        return {**found["State"], "Restarts": found["RestartCount"]}


@pytest.fixture
def commands(tmp_path: Path) -> ProcessCommands:
    file = tmp_path / "server.py"
    file.write_text(SERVER)
    return ProcessCommands(serve=(sys.executable, str(file)))


@pytest.fixture
def engine(tmp_path: Path, commands: ProcessCommands) -> Iterator[DockerEngine]:
    made = DockerEngine(tmp_path / "disk", commands, lambda image: "missing" not in image)
    yield made
    made.turn_off()


@pytest.fixture
def client(engine: DockerEngine) -> Iterator[Client]:
    with tempfile.TemporaryDirectory() as folder:  # its path is short
        opened = EngineSocket(engine_app(engine), Path(folder, "docker.sock"))
        made = Client(opened.address)
        made.ask("POST", "/images/create?fromImage=example/a&tag=latest")
        yield made
        opened.close()
        assert list(Path(folder).iterdir()) == []


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "word.txt").write_text("served")
    return folder


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def published(number: int, model: Path, policy: str = "no") -> Json:
    binding = [{"HostIp": "127.0.0.1", "HostPort": str(number)}]
    mount = {"Type": "bind", "Source": str(model), "Target": "/model", "ReadOnly": True}
    return {"PortBindings": {"8000/tcp": binding}, "Mounts": [mount], "RestartPolicy": {"Name": policy}}


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def answers(number: int) -> str:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", number, timeout=5)) as connection:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
    except OSError:
        return ""


def test_a_container_serves_what_is_mounted_at_the_port_that_is_published(client: Client, model: Path) -> None:
    number = port()
    assert client.create("a", Env=["WORD=x"], Cmd=["--workers", "1"], HostConfig=published(number, model)) == 201
    assert client.state("a")["Status"] == "created"
    assert client.ask("POST", "/containers/a/start")[0] == 204
    assert client.ask("POST", "/containers/a/start")[0] == 304
    wait_for(lambda: answers(number) == "served")
    status, log = client.ask("GET", "/containers/a/logs?stdout=1")
    assert (status, log[:25]) == (200, b"\x01\0\0\0\0\0\0\x11up --workers 1 x\n")
    assert b"up" not in client.ask("GET", "/containers/a/logs?stdout=1&tail=1")[1]  # the request's line is the last
    second = published(number, model)
    client.create("b", HostConfig=second)
    assert "port is already allocated" in client.ask("POST", "/containers/b/start")[1]["message"]
    assert client.ask("DELETE", "/containers/a")[0] == 409
    assert client.ask("POST", "/containers/a/stop?t=5")[0] == 204
    assert client.state("a")["ExitCode"] == 143
    assert answers(number) == ""
    assert client.ask("POST", "/containers/b/start")[0] == 204  # the port is free again
    for name in ("a", "b"):
        assert client.ask("DELETE", f"/containers/{name}?force=1")[0] == 204
    assert client.ask("GET", "/containers/json?all=1")[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("no", 3, False), ("on-failure", 0, False), ("on-failure", 3, True), ("unless-stopped", 0, True)],
)
def test_a_container_that_ends_is_started_again_as_its_policy_says(
    client: Client, policy: str, code: int, again: bool
) -> None:
    client.create("a", Env=[f"CODE=0{code}"], HostConfig={"RestartPolicy": {"Name": policy}})
    client.ask("POST", "/containers/a/start")
    if again:
        wait_for(lambda: client.state("a")["Restarts"] >= 2)
    else:
        wait_for(lambda: client.state("a")["Status"] == "exited")
        time.sleep(0.3)
        assert client.state("a")["Restarts"] == 0
    assert client.state("a")["ExitCode"] == code
    client.ask("POST", "/containers/a/stop?t=1")
    assert client.state("a")["Status"] == "exited"


def test_what_an_engine_has_outlives_its_machine(
    engine: DockerEngine, client: Client, commands: ProcessCommands, tmp_path: Path, model: Path
) -> None:
    numbers = {name: port() for name in ("kept", "stopped", "once")}
    for name, number in numbers.items():
        policy = "no" if name == "once" else "unless-stopped"
        client.create(name, HostConfig=published(number, model, policy))
        client.ask("POST", f"/containers/{name}/start")
        wait_for(lambda number=number: answers(number) == "served")  # type: ignore[misc]
    client.ask("POST", "/containers/stopped/stop")
    engine.turn_off()
    assert not any(map(answers, numbers.values()))
    another = DockerEngine(tmp_path / "disk", commands)
    try:
        another.turn_on()
        wait_for(lambda: answers(numbers["kept"]) == "served")
        states = {item.definition.name: item.state.status for item in another.all()}
        assert states == {"kept": "running", "stopped": "created", "once": "created"}
        assert another.images.find("example/a") is not None
    finally:
        another.turn_off()


def test_what_does_not_exist_is_said(client: Client) -> None:
    for method, path, status, message in (
        ("POST", "/containers/create?name=b", 404, "No such image: other:latest"),
        ("GET", "/containers/no/json", 404, "No such container: no"),
        ("GET", "/images/no/such:1/json", 404, "No such image: no/such:1"),
        ("POST", "/images/create?fromImage=missing&tag=1", 404, "manifest for missing:1 not found"),
        ("GET", "/v1.43/networks", 404, "GET /networks is not emulated on a compute instance"),
        ("POST", "/containers/create?name=b", 400, "the request body is not an object"),
    ):
        found = client.ask(method, path, {"Image": "other"} if status == 404 else [1])
        assert (found[0], message in found[1]["message"]) == (status, True), found
    client.create("a", HostConfig={"Mounts": [{"Source": "/no/such/place", "Target": "/model"}]})
    assert "bind source path does not exist" in client.ask("POST", "/containers/a/start")[1]["message"]


def archive(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


def test_of_a_recipe_files_variables_and_labels_are_taken(tmp_path: Path) -> None:
    images = EngineImages(tmp_path)
    base = images.pull("docker.io/library/base", {"MLOPS_BUNDLE": "/model"})
    recipe = (
        "ARG BASE=nothing\nFROM scratch AS first\nCOPY bundle/ /lost/\nFROM ${BASE}\nARG NAME=x\n# RUN false\n"
        'RUN exit 1\nCOPY bundle/ /model/\nENV A=$NAME B="two words" \\\n  C=3\nLABEL kind=good\n'
    )
    context = archive(Dockerfile=recipe, bundle__word="hello")

    def build(name: str) -> Any:
        return images.build(context, "Dockerfile", ["made"], {"BASE": "base", "NAME": name}, {"more": "1"})

    made = build("y")
    assert made.variables == {"MLOPS_BUNDLE": "/model", "A": "y", "B": "two words", "C": "3"}
    assert made.labels == {"kind": "good", "more": "1"}
    assert (Path(made.root) / "model" / "word").read_text() == "hello"
    assert not (Path(made.root) / "lost").exists()
    assert build("y").id == made.id != build("z").id
    assert images.get("made").variables["A"] == "z"  # the name has moved on
    assert images.get(made.id).tags == ()
    assert EngineImages(tmp_path).get("base:latest") == base


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": ""}, "Cannot locate specified Dockerfile: Dockerfile"),
        ({"Dockerfile": "RUN x\n"}, "FROM is missing"),
        ({"Dockerfile": "FROM a\nCOPY nothing /x\n"}, "file not found in build context: nothing"),
        ({"Dockerfile": "FROM a\nCOPY ../../../../secret /x\n"}, "forbidden path outside the build context"),
        ({"Dockerfile": "FROM a\nCOPY Dockerfile ../../x\n"}, "forbidden path outside the build context"),
    ],
)
def test_a_recipe_that_cannot_be_built_is_said(tmp_path: Path, files: dict[str, str], message: str) -> None:
    (tmp_path / "secret").write_text("not for images")
    with pytest.raises(ServiceRefusalError, match=message):
        EngineImages(tmp_path / "disk" / "deep").build(archive(**files), "Dockerfile", ["a"], {}, {})


def test_a_context_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceRefusalError, match="Cannot locate specified Dockerfile"):
        EngineImages(tmp_path).build(os.urandom(700), "Dockerfile", ["a"], {}, {})
