"""Clients that people use, as they come: each scores an image over the server and over the router of an endpoint.

A client that is not on this machine is skipped with its name; where REQUIRE_HTTP_CLIENTS is set, as in continuous
integration, that is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import urllib3
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import RunningServer, serving

from vision_mlops.endpoints.local.router.backend import Backend
from vision_mlops.endpoints.local.router.endpoint_state import DeploymentSpec
from vision_mlops.endpoints.local.router.router_app import RouterApp
from vision_mlops.serving.http.http_messages import Response

SOURCES = Path(__file__).parents[1] / "support" / "http_clients"
REQUIRED = "REQUIRE_HTTP_CLIENTS" in os.environ
SCORE = "/score?top_k=1"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(make_bundle(tmp_path_factory.mktemp("bundle") / "b"), "--workers", "1") as server:
        yield server


@pytest.fixture(scope="module")
def router(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with routed(server.port, tmp_path_factory.mktemp("endpoint")) as url:
        yield url


@pytest.fixture(params=["server", "router"])
def url(request: pytest.FixtureRequest, server: RunningServer) -> str:
    """Address of either."""
    return f"http://127.0.0.1:{server.port}" if request.param == "server" else str(request.getfixturevalue("router"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 120 kB, which no client sends in one piece."""
    stream = io.BytesIO()
    Image.new("RGB", (200, 200), COLOURS["green"]).save(stream, "PNG", compress_level=0)
    path = tmp_path_factory.mktemp("image") / "green.png"
    path.write_bytes(stream.getvalue())
    return path


@contextlib.contextmanager
def routed(port: int, folder: Path) -> Iterator[str]:
    """A router of this process before a server; yields its address."""
    started = threading.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        app = RouterApp("key", lambda request: Response.json(200, request.path))
        backend = Backend(DeploymentSpec("v1", "m", "1", "/b"), folder)
        backend.server.max_body, backend.server.request_timeout_s = 2**20, 20.0
        backend.pool.move(port)
        backend.ready = True
        app.backends["v1"] = backend
        app.share({"v1": 100}, {})
        app.set_limits()
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(app.hub, "127.0.0.1", 0)
        found.update(port=listener.sockets[0].getsockname()[1], loop=loop, end=asyncio.Event())
        started.set()
        await found["end"].wait()
        listener.close()
        for connection in list(app.hub.connections):
            connection.transport.abort()
        for upstream in list(backend.pool.connections):
            upstream.transport.abort()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    yield f"http://127.0.0.1:{found['port']}"
    found["loop"].call_soon_threadsafe(found["end"].set)
    thread.join(30)


def green(answer: Any) -> bool:
    """Whether an answer, as text or read, is that of the image."""
    read = json.loads(answer) if isinstance(answer, str | bytes) else answer
    return [item["label"] for item in read["predictions"]] == ["green"]


def run(program: str, *options: str, **variables: str) -> str:
    """What a program prints; it must end with 0 within two minutes."""
    found = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        assert not REQUIRED, f"{program} is not installed, and REQUIRE_HTTP_CLIENTS is set"
        pytest.skip(f"{program} is not installed")
    done = subprocess.run(
        [found, *options], capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


CURL: dict[str, list[str]] = {
    "plain": [],
    "1.0": ["--http1.0"],
    "1.0-keep-alive": ["--http1.0", "-H", "Connection: keep-alive"],
    "1.1": ["--http1.1"],
    "2": ["--http2"],
    "2-chunked": ["--http2", "-H", "Transfer-Encoding: chunked"],
    "expect": ["-H", "Expect: 100-continue"],
    "chunked": ["-H", "Transfer-Encoding: chunked"],
    "close": ["-H", "Connection: close"],
    "no-type": ["-H", "Content-Type:"],
    "compressed": ["--compressed", "-H", "TE: gzip"],
}


@pytest.mark.parametrize("options", CURL.values(), ids=CURL)
def test_curl(url: str, image: Path, options: list[str]) -> None:
    given = ["-sS", "-m", "10", "-H", "Content-Type: image/png", "--data-binary", f"@{image}"]
    shown = ["-w", "\n%{http_code} %{num_connects}\n"]
    lines = run("curl", *given, *shown, *options, f"{url}{SCORE}", f"{url}{SCORE}").splitlines()
    assert green(lines[0])
    assert green(lines[2])
    keeps = options != ["--http1.0"] and "Connection: close" not in options
    assert lines[1::2] == ["200 1", "200 0" if keeps else "200 1"]


@pytest.mark.parametrize(
    "name", ["image=@{}", "image=@{};filename=Pr\u00fcfling \u4e2d.png", 'file[]=@{};filename="a;\\"b.png"',
             "image=@{};type=image/png;filename=", "image=@{};encoder=base64"],
)  # fmt: skip
def test_curl_with_a_form(url: str, image: Path, name: str) -> None:
    answer = run(
        "curl", "-sS", "-m", "10", "-F", "explain=no", "-F", name.format(image), "-F", "top_k=1", f"{url}/score"
    )
    assert green(answer)


def test_curl_without_a_type(url: str, image: Path, tmp_path: Path) -> None:
    """It says how curl sends an image as it is."""
    assert green(run("curl", "-sS", "-m", "10", "--data-binary", f"@{image}", f"{url}{SCORE}"))
    text = tmp_path / "a.txt"
    text.write_text("hello")
    for option, file in (("--data-binary", text), ("--data", image)):  # the other one takes bytes out of the image
        answer = json.loads(run("curl", "-sS", "-m", "10", option, f"@{file}", f"{url}/score"))
        assert "--data-binary @IMAGE" in answer["error"]["message"]


def test_requests(url: str, image: Path) -> None:
    content = image.read_bytes()
    with requests.Session() as session:
        answers = [
            session.post(f"{url}/score", content, params={"top_k": 1, "explain": True}, headers=PNG),
            session.post(f"{url}{SCORE}", iter([content[:100], content[100:]]), headers=PNG),
            session.post(f"{url}{SCORE}", files={"image": ("Pr\u00fcfling.png", content)}),
            session.post(f"{url}/score", {"top_k": 1}, files={"image": (None, content, "image/png")}),
            session.post(f"{url}{SCORE}", gzip.compress(content), headers={**PNG, "Content-Encoding": "gzip"}),
            session.post(f"{url}{SCORE}", content),
        ]
        assert session.get(f"{url}/health/ready").json()["status"] == "ready"
    assert all(green(answer.json()) for answer in answers)
    assert "heat_map" in answers[0].json()


def test_urllib3_and_the_standard_library(url: str, image: Path) -> None:
    content = image.read_bytes()
    with urllib3.PoolManager() as pool:
        fields: dict[str, Any] = {"image": ("Pr\u00fcfling.png", content), "top_k": "1"}
        assert green(pool.request("POST", f"{url}/score", fields=fields).json())
        assert green(pool.request("POST", f"{url}{SCORE}", body=io.BytesIO(content), chunked=True, headers=PNG).json())
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        for encode_chunked in (False, True):
            headers = {**PNG, "Transfer-Encoding": "chunked"} if encode_chunked else PNG
            connection.request("POST", SCORE, content, headers, encode_chunked=encode_chunked)
            assert green(connection.getresponse().read())


def test_httpx(url: str, image: Path) -> None:
    content = image.read_bytes()
    with httpx.Client(base_url=url, timeout=10) as client:
        assert green(client.post(SCORE, content=content, headers=PNG).json())
        assert green(client.post(SCORE, content=iter([content[:100], content[100:]]), headers=PNG).json())
        assert green(client.post("/score", files={"image": ("Pr\u00fcfling.png", content)}, data={"top_k": "1"}).json())
        assert client.head("/health/ready").status_code == 200
        assert client.options("/score").status_code == 204


def test_aiohttp(url: str, image: Path) -> None:
    content = image.read_bytes()

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:100]
        yield content[100:]

    async def answers() -> list[Any]:
        form = aiohttp.FormData({"top_k": "1"})
        form.add_field("image", content, filename="Pr\u00fcfling \u4e2d.png", content_type="image/png")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            posts = [
                session.post(f"{url}{SCORE}", data=content, headers=PNG),
                session.post(f"{url}{SCORE}", data=pieces(), headers=PNG),
                session.post(f"{url}{SCORE}", data=content, headers=PNG, compress="gzip"),
                session.post(f"{url}{SCORE}", data=content, headers=PNG, compress="deflate"),
                session.post(f"{url}{SCORE}", data=content, headers=PNG, expect100=True),
                session.post(f"{url}/score", data=form),
            ]
            return [await (await post).json() for post in posts]

    assert all(green(answer) for answer in asyncio.run(answers()))


def test_fetch_of_node(url: str, image: Path) -> None:
    lines = run("node", str(SOURCES / "client.mjs"), url, str(image)).splitlines()
    assert [line[:3] for line in lines] == ["200"] * 3
    assert all(green(line[4:]) for line in lines)


@pytest.mark.parametrize("options", [[], ["-k"]], ids=["close", "keep-alive"])
def test_ab(url: str, image: Path, options: list[str]) -> None:
    """ab speaks HTTP/1.0, and waits for the end of a connection that is not said to stay."""
    report = run(
        "ab",
        "-q",
        "-n",
        "20",
        "-c",
        "2",
        "-s",
        "5",
        "-l",
        *options,
        "-p",
        str(image),
        "-T",
        "image/png",
        f"{url}{SCORE}",
    )
    counts = dict(re.findall(r"(?m)^([A-Z][A-Za-z-]+ [a-zA-Z]+): +(\d+)", report))
    assert counts["Complete requests"] == "20"
    assert counts["Failed requests"] == "0", report
    assert "Non-2xx" not in report
    assert counts.get("Keep-Alive requests") == ("20" if options else None)


@pytest.mark.slow
def test_wrk(url: str, image: Path) -> None:
    report = run("wrk", "-t1", "-c4", "-d1s", "-s", str(SOURCES / "post.lua"), f"{url}{SCORE}", "--", str(image))
    assert "Non-2xx" not in report
    assert "Socket errors" not in report
    found = re.search(r"(\d+) requests in", report)
    assert found is not None
    assert int(found[1]) > 10


@pytest.mark.slow
def test_java(url: str, image: Path) -> None:
    if shutil.which("javac") is None and not REQUIRED:
        pytest.skip("javac is not installed")
    lines = run("java", str(SOURCES / "Client.java"), url, str(image)).splitlines()
    assert [line[:3] for line in lines] == ["200"] * 8
    assert all(green(line[4:]) for line in lines if len(line) > 3)
    assert sum(len(line) > 3 for line in lines) == 6


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Go's client, compiled; that takes a quarter of a minute, with the standard library."""
    folder = tmp_path_factory.mktemp("go")
    variables = {"GOCACHE": str(folder / "cache"), "GOPATH": str(folder), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    run("go", "build", "-o", str(folder / "client"), str(SOURCES / "client.go"), **variables)
    return str(folder / "client")


@pytest.mark.slow
def test_go(url: str, image: Path, go_client: str) -> None:
    lines = run(go_client, url, str(image)).splitlines()
    assert [line[:3] for line in lines] == ["200"] * 3
    assert all(green(line[4:]) for line in lines)
