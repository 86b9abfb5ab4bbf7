"""The entry script under Azure ML's own inference server answers as ``mlops serve`` does."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import RunningServer, serving

from vision_mlops.endpoints.azureml.azureml_workspace import ENTRY_SCRIPT, package_code

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements" / "azmlinfsrv.txt"
SCRIPT = ROOT / "src" / "vision_mlops" / "serving" / "score.py"
# It listens on every address by itself; its launcher takes the address from this name.
START = """
from azureml_inference_server_http import amlserver
amlserver.DEFAULT_HOST = "127.0.0.1"
amlserver.run()
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def environment() -> Path:
    """Python of an environment with Azure ML's server, made once and kept beside the project's own."""
    folder = ROOT / ".venv-azmlinfsrv"
    stamp, wanted = folder / ".installed", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        stamp.write_text(wanted)
    return folder / "bin" / "python"


@contextlib.contextmanager
def azmlinfsrv(python: Path, model_dir: Path, log: Path, script: Path = SCRIPT) -> Iterator[RunningServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(python), "-c", START, "--entry_script", str(script), "--port", str(port)]
    command += ["--worker_count", "1"]
    variables = {
        "AZUREML_MODEL_DIR": str(model_dir),
        "PYTHONPATH": str(ROOT / "src") if script == SCRIPT else "",
        "MLOPS_SERVING__MAX_BODY_MB": "1",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, **variables}, cwd=log.parent,
            start_new_session=True,
        )  # fmt: skip
    server = RunningServer(process, port, log)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def encoded(size: int = 40, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS["green"]).save(stream, kind)
    return stream.getvalue()


PNG, JPEG = encoded(), encoded(kind="JPEG")
TEXT = base64.b64encode(JPEG).decode()
FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + JPEG + b"\r\n--b--\r\n"
FORM_TYPE = "multipart/form-data; boundary=b"
REQUESTS: dict[str, tuple[str, bytes, str]] = {
    "jpeg": ("", JPEG, "image/jpeg"),
    "png": ("", PNG, "image/png"),
    "bytes": ("", JPEG, "application/octet-stream"),
    "json": ("", json.dumps({"image": TEXT}).encode(), "application/json"),
    "json-list": ("", json.dumps({"images": [TEXT, TEXT]}).encode(), "application/json"),
    "form": ("", FORM, FORM_TYPE),
    "top_k": ("?top_k=1", JPEG, "image/jpeg"),
    "explain": ("?explain=true", JPEG, "image/jpeg"),
    "describe": ("", b'{"describe": true}', "application/json"),
    "describe-false": ("", b'{"describe": false}', "application/json"),
    "empty": ("", b"", "image/jpeg"),
    "text": ("", b"hello", "text/plain"),
    "no-type": ("", JPEG, ""),
    "web-form": ("", JPEG, "application/x-www-form-urlencoded"),
    "web-form-text": ("", b"hello", "application/x-www-form-urlencoded"),
    "misspelt": ("?topk=1", JPEG, "image/jpeg"),
    "no-image": ("", b"hello", "image/png"),
    "truncated": ("", encoded(200)[:-60], "image/png"),
    "bad-json": ("", b"{", "application/json"),
    "other-json": ("", b'{"picture": 1}', "application/json"),
    "bad-base64": ("", b'{"image": "***"}', "application/json"),
    "empty-list": ("", b'{"images": []}', "application/json"),
    "bad-form": ("", b"x", "multipart/form-data"),
    "plain-field": ("", FORM.replace(b'; filename="a.jpg"', b""), FORM_TYPE),
    "top_k-0": ("?top_k=0", JPEG, "image/jpeg"),
    "top_k-text": ("?top_k=many", JPEG, "image/jpeg"),
    "explain-text": ("?explain=perhaps", JPEG, "image/jpeg"),
    "too-large": ("", b"x" * (2**20 + 1), "image/jpeg"),
}


@pytest.fixture(scope="module")
def servers(
    environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, RunningServer]]:
    folder = tmp_path_factory.mktemp("score")
    mounted = folder / "azureml-models" / "colours" / "7"
    bundle = make_bundle(mounted / "bundle")
    options = ("--workers", "1", "--name", "colours", "--version", "7")
    with (
        azmlinfsrv(environment, mounted, folder / "log") as theirs,
        serving(bundle, *options, MLOPS_SERVING__MAX_BODY_MB="1") as ours,
    ):
        theirs.wait(60, lambda: theirs.ask("POST", "/score", JPEG, Content_Type="image/jpeg").status == 200)
        yield ours, theirs


def comparable(content: Any) -> Any:
    """An answer without what differs from one request to the next."""
    return {key: value for key, value in content.items() if key not in ("timing", "request_id")}


@pytest.mark.parametrize("case", REQUESTS)
def test_both_servers_give_the_same_answer(servers: tuple[RunningServer, RunningServer], case: str) -> None:
    query, body, kind = REQUESTS[case]
    headers: dict[str, Any] = {"Content_Type": kind} if kind else {}
    ours, theirs = (server.ask("POST", f"/score{query}", body, **headers) for server in servers)
    assert theirs.status == ours.status, theirs.body
    assert comparable(theirs.json) == comparable(ours.json)
    assert theirs.headers["content-type"] == ours.headers["content-type"]
    assert set(theirs.json.get("timing", {})) == set(ours.json.get("timing", {}))


def test_the_code_that_is_deployed_needs_nothing_but_the_server(environment: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "azureml-models" / "colours" / "3"
    make_bundle(mounted / "bundle")
    with package_code() as code, azmlinfsrv(environment, mounted, tmp_path / "log", code / ENTRY_SCRIPT) as server:
        server.wait(60, lambda: server.ask("POST", "/score", JPEG, Content_Type="image/jpeg").status == 200)
        answer = server.ask("POST", "/score?top_k=1", JPEG, Content_Type="image/jpeg").json
        assert (answer["predictions"][0]["label"], answer["model"]["version"]) == ("green", "3")


def test_request_ids_and_methods(servers: tuple[RunningServer, RunningServer]) -> None:
    for server in servers:
        answer = server.ask("POST", "/score", JPEG, Content_Type="image/jpeg", X_Request_Id="abc-1")
        assert (answer.headers["x-request-id"], answer.json["request_id"]) == ("abc-1", "abc-1")
        assert answer.json["model"]["version"] == "7"
        assert server.ask("GET", "/score").code == "method_not_allowed"


def test_a_folder_without_a_bundle_is_named_in_the_log(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with azmlinfsrv(environment, tmp_path / "model", tmp_path / "log") as server:
        deadline = time.monotonic() + 60
        while "contains no model bundle" not in server.log.read_text():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.1)
        with pytest.raises((OSError, http.client.HTTPException)):
            server.ask("POST", "/score", JPEG, Content_Type="image/jpeg")
