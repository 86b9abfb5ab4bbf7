"""The web frontend as people run it: the command and gunicorn, in front of a real scoring server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from testing.support.bundles import make_bundle
from testing.support.scoring_servers import RunningServer, serving
from testing.support.web_app import web_app

from vision_mlops.evaluation.metrics_file import write_evaluation
from vision_mlops.model.bundle import read_bundle, write_bundle

pytestmark = pytest.mark.slow

KEY, ADMIN_KEY = "of the endpoint", "of the administration"


def evaluated(folder: Path, swap: bool, images: int) -> Path:
    """A bundle with an evaluation on so many images, the first of which is mistaken."""
    make_bundle(folder, swap=swap)
    labels = np.arange(images) % 3
    probabilities = np.full((images, 3), 0.05)
    probabilities[np.arange(images), labels] = 0.9
    probabilities[0] = [0.1, 0.8, 0.1]
    bundle = read_bundle(folder)
    write_evaluation(folder, labels, probabilities, bundle.classes)
    write_bundle(folder, bundle)
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return evaluated(folder / "1", False, 311), evaluated(folder / "2", True, 522)


@pytest.fixture(scope="module")
def server(bundles: tuple[Path, Path]) -> Iterator[RunningServer]:
    options = ("--workers", "1", "--name", "colours", "--version", "1")
    with serving(bundles[0], *options, MLOPS_SCORING_KEY=KEY, MLOPS_ADMIN_KEY=ADMIN_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: RunningServer) -> Iterator[str]:
    with web_app(f"http://127.0.0.1:{server.port}", ENDPOINT_KEY=KEY, RATE_LIMIT="none") as url:
        yield url


@contextlib.contextmanager
def browser(address: str) -> Iterator[httpx.Client]:
    """A session that has seen a page, and sends the token of its forms."""
    with httpx.Client(base_url=address, timeout=30) as client:
        found = re.search(r'name="csrf-token" content="([^"]+)"', client.get("/").text)
        assert found is not None
        client.headers["X-CSRFToken"] = found[1]
        yield client


def golden(bundle: Path, label: str) -> bytes:
    return (bundle / "golden" / f"{label}.png").read_bytes()


def test_an_answer_is_that_of_the_server(server: RunningServer, bundles: tuple[Path, Path], address: str) -> None:
    image = golden(bundles[0], "green")
    direct = server.score(image, "?explain=true", Content_Type="image/png", X_Api_Key=KEY).json
    with browser(address) as client:
        answer = client.post("/api/classify", files={"image": image}, data={"explain": "true"}).json()
    for key in ("predictions", "heat_map", "model"):
        assert answer[key] == direct[key]
    assert answer["predictions"][0]["label"] == "green"


def test_the_pages_follow_the_model_that_is_deployed(
    server: RunningServer, bundles: tuple[Path, Path], address: str
) -> None:
    image = golden(bundles[0], "blue")

    def deploy(bundle: Path, version: str) -> None:
        wanted = json.dumps({"bundle": str(bundle), "name": "colours", "version": version})
        assert server.ask("POST", "/admin/reload", wanted, X_Api_Key=ADMIN_KEY).status == 200

    with browser(address) as client:
        for bundle, version, label, seen, unseen in (
            (bundles[0], "1", "blue", 311, 522),
            (bundles[1], "2", "green", 522, 311),
            (bundles[0], "1", "blue", 311, 522),
        ):
            deploy(bundle, version)
            answer = client.post("/api/classify", files={"image": image}).json()
            assert (answer["predictions"][0]["label"], answer["model"]["version"]) == (label, version)
            page = client.get("/model").text
            assert answer["model"]["id"] in page
            assert f"on {seen} test images" in page
            assert f"on {unseen} test images" not in page


def test_many_at_once_get_their_own_answers(bundles: tuple[Path, Path], address: str) -> None:
    labels = ["blue", "green", "red"] * 20
    with browser(address) as client, ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda label: client.post("/api/classify", files={"image": golden(bundles[0], label)}).json(), labels
            )
        )
    assert [answer["predictions"][0]["label"] for answer in answers] == labels


@pytest.mark.parametrize("megabytes", [21, 60])
def test_whoever_sends_too_much_reads_the_reason(address: str, megabytes: int) -> None:
    with browser(address) as client:
        answer = client.post("/api/classify", files={"image": bytes(megabytes * 2**20)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "upload_too_large")


@contextlib.contextmanager
def command(*options: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "vision_mlops", "app", *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ready(log: Path) -> str:
    deadline = time.monotonic() + 30
    while (found := re.search(r"is at (http://\S+)", log.read_text())) is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_told_to_end(
    server: RunningServer, bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("MLOPS_APP_ENDPOINT_KEY", KEY)
    log, port_file = tmp_path / "log", tmp_path / "port"
    options = ("--endpoint", f"http://127.0.0.1:{server.port}", "--port", "0", "--port-file", str(port_file))
    with command(*options, log=log) as process:
        url = ready(log)
        assert url == f"http://127.0.0.1:{int(port_file.read_text())}"
        with browser(url) as client:
            answer = client.post("/api/classify", files={"image": golden(bundles[0], "red")}).json()
            assert answer["predictions"][0]["label"] == "red"
            assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
            process.send_signal(number)
            assert process.wait(20) == 0, log.read_text()
    assert log.read_text().count("stopped") == 1
    assert not (tmp_path / "user").exists(), "nothing is written to the home folder of the user"


def test_a_session_outlives_a_worker_that_is_killed(
    server: RunningServer, bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_APP_ENDPOINT_KEY", KEY)
    log, image = tmp_path / "log", golden(bundles[0], "red")
    options = ("--endpoint", f"http://127.0.0.1:{server.port}", "--port", "0")
    with command(*options, log=log) as process, browser(ready(log)) as client:
        assert client.post("/api/classify", files={"image": image}).status_code == 200
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        deadline = time.monotonic() + 20
        status = 0
        while status != 200:
            with contextlib.suppress(httpx.TransportError):
                status = client.post("/api/classify", files={"image": image}).status_code
            assert status in (0, 200), log.read_text()
            assert time.monotonic() < deadline, log.read_text()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        log = tmp_path / "log"
        with command("--endpoint", "http://127.0.0.1:9", "--port", str(port), log=log) as process:
            assert process.wait(30) == 2
    assert f"127.0.0.1:{port}" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_settings_that_only_the_app_can_judge_end_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_APP_CORRECTIONS", "https://elsewhere.example/container")
    log = tmp_path / "log"
    with command("--endpoint", "http://127.0.0.1:9", "--port", "0", log=log) as process:
        assert process.wait(30) == 2, log.read_text()
    assert log.read_text().startswith("error: MLOPS_APP_CORRECTIONS: ")
    assert "Traceback" not in log.read_text()
    assert "gunicorn" not in log.read_text()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MLOPS_APP_SECRET_KEY", "k3y", "must have at least 16 characters"),
        ("MLOPS_APP_ENDPOINT", "http://me:k3y@host/score", "must not contain a key"),
        ("MLOPS_APP_CORRECTIONS", __file__, "is not a writable folder"),
    ],
)
def test_gunicorn_ends_with_one_line_where_a_setting_is_wrong(variable: str, value: str, told: str) -> None:
    line = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--config", "python:vision_mlops.flask_app.gunicorn_settings"]
    ended = subprocess.run(
        [sys.executable, *line, "vision_mlops.flask_app.app:create_app()"],
        env={**os.environ, variable: value}, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert variable in ended.stderr
    assert told in ended.stderr
    assert "k3y" not in ended.stderr
    assert "Traceback" not in ended.stderr
