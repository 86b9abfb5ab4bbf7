"""The router of local endpoints: exact shares, honest counts, and requests that survive what happens to servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
import sys
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from vision_mlops.core.errors import DeploymentError, MissingExtraError
from vision_mlops.endpoints.contract import LATENCY_BOUNDS_MS, DeploymentOptions, DeploymentRequest
from vision_mlops.endpoints.local.router import log_files
from vision_mlops.endpoints.local.router.backend import Backend
from vision_mlops.endpoints.local.router.counters import DeploymentCounters, read_counters, write_counters
from vision_mlops.endpoints.local.router.endpoint_state import (
    DeploymentSpec,
    EndpointState,
    read_state,
    write_key,
    write_state,
)
from vision_mlops.endpoints.local.router.exchange import Exchange, Mirror, labels
from vision_mlops.endpoints.local.router.log_files import bound_log, tail
from vision_mlops.endpoints.local.router.router_admin import Control
from vision_mlops.endpoints.local.router.router_app import RouterApp
from vision_mlops.endpoints.local.router.traffic_shares import Shares
from vision_mlops.serving.http.http_messages import Request, Response, Work


def choices(folder: Path, *names: str) -> list[Backend]:
    found = [Backend(DeploymentSpec(name, "m", "1", "/b"), folder) for name in names]
    for item in found:
        item.ready = True
    return found


def test_shares_are_exact_and_even(tmp_path: Path) -> None:
    a, b, none = choices(tmp_path, "a", "b", "none")
    shares = Shares([(a, 90), (b, 10), (none, 0)])
    turns = [choice.name for _ in range(1000) if (choice := shares.next())]
    assert Counter(turns) == {"a": 900, "b": 100}
    for first in range(0, 1000, 10):
        assert turns[first : first + 10].count("b") == 1


def test_what_is_not_ready_is_passed_over_and_others_keep_their_proportion(tmp_path: Path) -> None:
    a, b, c = choices(tmp_path, "a", "b", "c")
    a.ready = False
    shares = Shares([(a, 60), (b, 30), (c, 10)])
    assert Counter(choice.name for _ in range(40) if (choice := shares.next())) == {"b": 30, "c": 10}
    assert shares.largest() is b
    assert shares.largest(without=[b]) is c
    b.ready = c.ready = False
    assert shares.next() is None
    assert not shares.ready


@pytest.mark.parametrize("percent", [0, 1, 37, 100])
def test_samples_are_exact(percent: int, tmp_path: Path) -> None:
    (full,) = choices(tmp_path, "full")
    full.ready = False
    mirror = Mirror(RouterApp("key", lambda request: None), full, percent)
    exchange = cast(Exchange, SimpleNamespace(body=b""))
    for _ in range(1000):
        mirror.offer(exchange, 200, b"{}")
    assert full.counters.dropped == percent * 10


def test_answers_are_counted_by_latency_and_survive_a_restart(tmp_path: Path) -> None:
    counters = DeploymentCounters()
    for seconds in (0.0005, 0.0011, 100.0):
        counters.answered(200, seconds)
    counters.answered(429, 0.001)
    counters.answered(500, 0.001)
    counters.failed()
    counts = counters.counts()
    assert (counts.requests, counts.errors) == (6, 2)
    assert (counts.latencies[0], counts.latencies[1], counts.latencies[-1]) == (3, 1, 1)
    assert len(counts.latencies) == len(LATENCY_BOUNDS_MS) + 1
    write_counters(tmp_path, {"a": counters})
    kept = read_counters(tmp_path)["a"]
    assert kept.counts() == counts
    assert kept.seconds == pytest.approx(100.0036)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"requests": 1, "latencies": [1]}}'])
def test_broken_counts_begin_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "counts.json").write_text(content)
    assert read_counters(tmp_path) == {}


def test_state_comes_back_and_the_first_deployment_gets_the_traffic(tmp_path: Path) -> None:
    first, second = DeploymentSpec("v1", "m", "1", "/b1", 2, {"A": "b"}), DeploymentSpec("v2", "m", "2", "/b2")
    state = EndpointState("e", 8000).with_deployment(first).with_deployment(second)
    assert state.traffic == {"v1": 100}
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert state.without_deployment("v2").deployments == (first,)
    assert read_state(tmp_path / "missing") is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"name": "e", "port": 1, "deployments": [{"nam": 1}]}'])
def test_a_broken_state_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "local.json").write_text(content)
    with pytest.raises(DeploymentError, match=r"local\.json cannot be read"):
        read_state(tmp_path)


def test_the_key_is_for_its_owner(tmp_path: Path) -> None:
    write_key(tmp_path, "k")
    assert (tmp_path / "router.key").stat().st_mode & 0o777 == 0o600


def test_a_log_that_has_become_large_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "_LOG_BYTES", 10)
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"one\ntwo\nthree\n")
        bound_log(log)
        writer.write(b"four\n")
        bound_log(log)
    assert log.read_bytes() == b"four\n"
    assert tail(log, 2) == "three\nfour"
    assert tail(log, 9) == "one\ntwo\nthree\nfour"
    assert tail(log, 1) == "four"
    assert tail(tmp_path / "none.log", 5) == ""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"predictions": [{"label": "a"}, {"label": "b"}]}', ["a"]),
        (b'{"results": [{"predictions": [{"label": "a"}]}, {"predictions": [{"label": "b"}]}]}', ["a", "b"]),
        (b"[]", None), (b"no", None), (b'{"results": 3}', None), (b'{"predictions": []}', None),
    ],
    ids=["one", "several", "list", "text", "number", "empty"],
)  # fmt: skip
def test_labels_of_an_answer(answer: bytes, expected: list[str] | None) -> None:
    assert labels(answer) == expected


# Requests on their way

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
IMAGE = b"image"


def scored(label: str) -> bytes:
    body = json.dumps({"predictions": [{"label": label}]}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(size)


def answering(label: str, *, lives: int = 10**9) -> Server:
    """A server that closes each connection, without a word, at the request after so many."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(lives):
                await read_request(reader)
                writer.write(scored(label))
            await read_request(reader)

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        await reader.read()  # until the other side is gone


class Router:
    """A router in this process, before servers that are programmed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = RouterApp("key", lambda request: Response.json(200, request.path))
        self.client: httpx.AsyncClient
        self._open = contextlib.AsyncExitStack()

    async def add(self, name: str, server: Server | None) -> Backend:
        backend = Backend(DeploymentSpec(name, "m", "1", "/b"), self.folder)
        port = 9  # nobody listens there
        if server is not None:
            listener = await asyncio.start_server(server, "127.0.0.1", 0)
            self._open.callback(listener.close)
            port = listener.sockets[0].getsockname()[1]
        backend.pool.move(port)
        backend.ready = True
        self.app.backends[name] = backend
        return backend

    async def score(self, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/score", content=IMAGE, headers=given)

    async def __aenter__(self) -> Router:
        listener = await asyncio.get_running_loop().create_server(self.app.hub, "127.0.0.1", 0)
        self._open.callback(listener.close)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        self.client = await self._open.enter_async_context(httpx.AsyncClient(base_url=url, timeout=5))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
        for connection in list(self.app.hub.connections):
            connection.transport.abort()
        for backend in self.app.backends.values():
            for upstream in list(backend.pool.connections):
                upstream.transport.abort()
        await asyncio.sleep(0)


Scenario = Callable[[Router], Awaitable[None]]


def run(folder: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Router(folder) as router:
            await scenario(router)

    asyncio.run(main())


def test_a_connection_that_breaks_without_a_word_costs_no_request(tmp_path: Path) -> None:
    async def scenario(router: Router) -> None:
        backend = await router.add("a", answering("x", lives=1))
        router.app.share({"a": 100}, {})
        answers = [await router.score() for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].headers["azureml-model-deployment"] == "a"
        counts = backend.counters.counts()
        assert (counts.requests, counts.errors, backend.in_flight) == (6, 0, 0)

    run(tmp_path, scenario)


def test_where_a_server_takes_no_connection_another_deployment_answers(tmp_path: Path) -> None:
    async def scenario(router: Router) -> None:
        dead, alive = await router.add("dead", None), await router.add("alive", answering("x"))
        router.app.share({"dead": 50, "alive": 50}, {})
        answers = [await router.score() for _ in range(4)]
        assert [answer.headers["azureml-model-deployment"] for answer in answers] == ["alive"] * 4
        assert (dead.counters.requests, dead.counters.errors, alive.counters.requests) == (2, 2, 4)
        picked = await router.score(azureml_model_deployment="dead")  # nobody else may answer this one
        assert (picked.status_code, picked.json()["error"]["code"]) == (503, "no_answer")
        assert picked.headers["retry-after"] == "1"

    run(tmp_path, scenario)


def test_a_request_that_ends_servers_is_sent_twice_to_one_and_once_to_another(tmp_path: Path) -> None:
    seen: list[str] = []

    def crashing(name: str) -> Server:
        async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            seen.append(name)
            writer.close()

        return crash

    async def scenario(router: Router) -> None:
        for name in ("a", "b", "c"):
            await router.add(name, crashing(name))
        router.app.share({"a": 98, "b": 1, "c": 1}, {})
        assert ((await router.score()).status_code, seen) == (503, ["a", "a", "b"])
        seen.clear()
        assert (await router.score(**{"azureml-model-deployment": "c"})).status_code == 503
        assert seen == ["c", "c"]

    run(tmp_path, scenario)


def test_another_deployment_answers_for_one_that_breaks_connections(tmp_path: Path) -> None:
    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.close()

    async def scenario(router: Router) -> None:
        broken = await router.add("a", crash)
        other = await router.add("b", answering("x"))
        router.app.share({"a": 99, "b": 1}, {})
        answer = await router.score()
        assert (answer.status_code, answer.headers["azureml-model-deployment"]) == (200, "b")
        assert (broken.counters.errors, other.counters.requests) == (1, 1)

    run(tmp_path, scenario)


def test_while_no_deployment_is_ready_callers_are_told_to_come_again(tmp_path: Path) -> None:
    async def scenario(router: Router) -> None:
        backend = await router.add("a", answering("x"))
        router.app.share({"a": 100}, {})
        assert (await router.client.get("/health/ready")).status_code == 200
        backend.ready, backend.server.problem = False, "it ended with exit code 3"
        for answer in (await router.score(), await router.client.get("/openapi.json")):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "exit code 3" in answer.json()["error"]["message"]
        assert (await router.client.get("/health/ready")).status_code == 503
        assert (await router.client.get("/health/live")).status_code == 200

    run(tmp_path, scenario)


def test_an_unknown_deployment_and_a_wrong_key_are_refused(tmp_path: Path) -> None:
    async def scenario(router: Router) -> None:
        await router.add("a", answering("x"))
        router.app.share({"a": 100}, {})
        unknown = await router.score(azureml_model_deployment="b")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "deployment_not_found")
        assert "it has: a" in unknown.json()["error"]["message"]
        for headers in ({}, {"X-Api-Key": "kez"}, {"X-Api-Key": ""}):
            refused = await router.client.post("/admin/shutdown", headers=headers)
            assert refused.status_code == 403
        assert (await router.client.post("/admin/status", headers={"X-Api-Key": "key"})).json() == "/admin/status"
        assert (await router.client.post("/health/live")).status_code == 405
        large = await router.client.post("/score", content=b"x" * (2**20 + 1))
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")

    run(tmp_path, scenario)


def test_copies_are_compared_and_counted(tmp_path: Path) -> None:
    async def scenario(router: Router) -> None:
        served, tried = await router.add("a", answering("x")), await router.add("b", answering("y"))
        router.app.share({"a": 100}, {"b": 50})
        for _ in range(10):
            assert (await router.score()).json()["predictions"][0]["label"] == "x"
        await router.score(azureml_model_deployment="a")  # picked: not copied
        while tried.counters.requests < 5 or tried.in_flight:
            await asyncio.sleep(0.01)
        assert (tried.counters.requests, tried.counters.compared, tried.counters.disagreed) == (5, 5, 5)
        assert (served.counters.requests, served.counters.compared) == (11, 0)

    run(tmp_path, scenario)


def test_a_mirror_that_hangs_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mirror, "MOST_WAITING", 3)

    async def scenario(router: Router) -> None:
        await router.add("a", answering("x"))
        tried = await router.add("b", silent)
        router.app.share({"a": 100}, {"b": 100})
        assert {(await router.score()).status_code for _ in range(20)} == {200}
        assert tried.counters.dropped == 20 - Mirror.AT_ONCE - 3
        router.app.share({"a": 100}, {})
        assert tried.in_flight == Mirror.AT_ONCE

    run(tmp_path, scenario)


def test_images_are_let_go_of_without_the_collector(tmp_path: Path) -> None:
    image = bytes(2**20)

    async def scenario(router: Router) -> None:
        backend, tried = await router.add("a", answering("x")), await router.add("b", answering("x"))
        router.app.share({"a": 100}, {"b": 50})
        reader, writer = await asyncio.open_connection("127.0.0.1", router.client.base_url.port)

        async def send() -> None:
            writer.write(b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(image) + image)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))

        await send()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(10):
                await send()
            while tried.in_flight:
                await asyncio.sleep(0.01)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()
        writer.close()
        assert (backend.counters.requests, tried.counters.compared) == (11, 5)
        assert held < 4 * len(image)

    run(tmp_path, scenario)


def test_who_hangs_up_is_not_waited_for(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await reader.read()
        gone.set()

    async def scenario(router: Router) -> None:
        backend = await router.add("a", hang)
        router.app.share({"a": 100}, {})
        _reader, writer = await asyncio.open_connection("127.0.0.1", router.client.base_url.port)
        writer.write(b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nimage")
        while not backend.in_flight:
            await asyncio.sleep(0.01)
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.close()
        await gone.wait()
        assert (backend.in_flight, backend.counters.requests) == (0, 0)

    run(tmp_path, scenario)


def test_a_server_that_gives_no_answer_in_time_has_failed(tmp_path: Path) -> None:
    async def scenario(router: Router) -> None:
        backend = await router.add("a", silent)
        router.app.share({"a": 100}, {})
        router.app.request_timeout_s = 0.1
        asking = asyncio.create_task(router.score())
        await asyncio.sleep(0.2)
        router.app.hub.tick()
        assert (await asking).json()["error"]["code"] == "timeout"
        assert (backend.counters.counts().errors, backend.in_flight) == (1, 0)

    run(tmp_path, scenario)


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    from vision_mlops.endpoints.local.target import LocalTarget

    monkeypatch.setitem(sys.modules, "httptools", None)
    request = SimpleNamespace(endpoint="e", options=DeploymentOptions())
    with pytest.raises(MissingExtraError, match="httptools"):
        LocalTarget().deploy(cast(DeploymentRequest, request), print)
    assert LocalTarget().endpoints() == []
    assert not home.exists()


class Command:
    """Stands for the connection of a command."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.job: Work | None = None

    def respond(self, request: Request, answer: Response) -> None:
        self.responses.append(answer)


def ask(control: Control, action: str, body: dict[str, object], command: Command | None = None) -> Response | None:
    request = Request(command or Command())
    request.path, request.body = f"/admin/{action}", json.dumps(body).encode()
    answer = control.obey(request)
    if command is not None:
        command.job = request.job
    return answer


def test_a_command_waits_until_its_deployment_is_ready_or_withdraws_it_by_hanging_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backend, "start", lambda self: self.log.touch())

    async def main() -> None:
        control = Control(tmp_path, EndpointState("e", 1), "key")

        def deploy(version: str, seconds: float = 60.0) -> Command:
            command = Command()
            spec = {"name": "a", "model": "m", "version": version, "bundle": "/b"}
            assert ask(control, "deploy", {"spec": spec, "seconds": seconds}, command) is None
            return command

        gone = deploy("1")
        assert gone.job is not None
        gone.job.abandon()
        assert (control.app.backends, (tmp_path / "logs" / "a.log").exists()) == ({}, False)
        late = deploy("1", seconds=-1.0)
        control.tick()
        assert json.loads(late.responses[0].body)["problem"] == "not ready within -1 s: the server is starting"
        killed, made = deploy("1"), deploy("1")
        assert "again" in json.loads(killed.responses[0].body)["problem"]
        making = control._backends()[0]
        making.server.port, making.server.ready = 5, True
        making._changed()
        await asyncio.sleep(0)
        assert json.loads(made.responses[0].body) == {"problem": "", "known": False}
        assert (control.app.backends, control.state.traffic) == ({"a": making}, {"a": 100})
        failed = deploy("2")
        control._backends()[1].server.problem = "the bundle is broken"
        control.tick()
        assert json.loads(failed.responses[0].body)["problem"] == "the bundle is broken"
        assert (control.app.backends, making.log.exists()) == ({"a": making}, True)
        (tmp_path / "local.json").unlink()
        (tmp_path / "local.json").mkdir()  # a file cannot take the place of a folder
        unwritten = deploy("2")
        control._backends()[1].ready = True
        control.tick()
        assert "cannot be changed" in json.loads(unwritten.responses[0].body)["problem"]
        assert control.app.backends == {"a": making}
        ended = deploy("2")
        await control.close()
        assert "ended" in json.loads(ended.responses[0].body)["problem"]

    asyncio.run(main())


def test_a_disk_that_takes_nothing_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        control = Control(tmp_path, EndpointState("e", 1), "key")
        for name in ("a", "b"):
            backend = control.app.backends[name] = Backend(DeploymentSpec(name, "m", "1", "/b"), tmp_path)
            backend.ready = True
            control.state = control.state.with_deployment(backend.spec)
        control.app.share({"a": 100}, {})
        (tmp_path / "counts.json").mkdir()  # a file cannot take the place of a folder
        (tmp_path / "local.json").mkdir()
        control.keep_counts()
        with pytest.raises(OSError, match="local"):
            ask(control, "traffic", {"traffic": {"b": 100}, "mirror": {}})
        assert control.state.traffic == control.app.traffic == {"a": 100}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("action", "body", "status", "message"),
    [
        ("traffic", {"traffic": {"a": 90}, "mirror": {}}, 409, "must add up to 100"),
        ("traffic", {"traffic": {"c": 100}, "mirror": {}}, 409, "'c' does not exist"),
        ("traffic", {"traffic": {"b": 100}, "mirror": {}}, 409, "'b' is not ready"),
        ("traffic", {"traffic": {"a": 100}, "mirror": {"a": 5}}, 409, "without traffic"),
        ("traffic", {}, 400, "KeyError"),
        ("delete", {"deployment": "a"}, 409, "has 100% of the traffic"),
        ("deploy", {"spec": {"nam": "x"}}, 400, "TypeError"),
        ("dance", {}, 404, "unknown action"),
    ],
    ids=["sum", "unknown", "not-ready", "mirror", "missing", "delete", "spec", "action"],
)
def test_what_cannot_be_done_is_refused(
    tmp_path: Path, action: str, body: dict[str, object], status: int, message: str
) -> None:
    async def main() -> None:
        control = Control(tmp_path, EndpointState("e", 1), "key")
        for name in ("a", "b"):
            control.app.backends[name] = Backend(DeploymentSpec(name, "m", "1", "/b"), tmp_path)
            control.state = control.state.with_deployment(DeploymentSpec(name, "m", "1", "/b"))
        control.app.backends["a"].ready = True
        answer = ask(control, action, body)
        assert answer is not None
        assert (answer.status, message in answer.body.decode()) == (status, True), answer.body

    asyncio.run(main())
