"""The scoring server as a whole: several processes, faults of clients, of the disk and of its own, and none may show."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.malformed_requests import answers_to, malformed_requests
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import Answer, Load, RunningServer, serving


def encoded(colour: tuple[int, int, int] = COLOURS["green"], size: int = 40, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, kind)
    return stream.getvalue()


IMAGE = encoded()
JPEG = encoded(kind="JPEG")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_bundle(folder / "one"), make_bundle(folder / "other", swap=True)


@pytest.fixture(scope="module")
def server(bundles: tuple[Path, Path]) -> Iterator[RunningServer]:
    """A server that has to come out of every test of this module as it went in."""
    limits = {"MAX_BODY_MB": "1", "HEAD_TIMEOUT_S": "1", "REQUEST_TIMEOUT_S": "2", "MAX_QUEUE": "16"}
    variables: dict[str, Any] = {f"MLOPS_SERVING__{name}": value for name, value in limits.items()}
    with serving(bundles[0], MLOPS_ADMIN_KEY="admin", **variables) as server:
        workers = server.workers()
        yield server
        assert server.workers() == workers, server.log.read_text()


def request(body: bytes, path: str = "/score", kind: str = "image/png") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


@pytest.mark.slow
def test_every_connection_finds_a_worker_and_they_get_the_same_number(server: RunningServer) -> None:
    connections = [server.connect() for _ in range(8)]
    pids = Counter[int]()
    for connection in connections:
        connection.sendall(request(IMAGE))
        assert b"200 OK" in connection.recv(65536)
    time.sleep(0.3)  # the log is written ten times a second
    for line in server.log.read_text().splitlines()[-8:]:
        pids[json.loads(line)["pid"]] += 1
    assert sorted(pids.values()) == [4, 4]
    for connection in connections:
        connection.close()


@pytest.mark.slow
def test_clients_that_come_again_at_once_are_still_shared_fairly(server: RunningServer) -> None:
    def sockets(pid: int) -> int:
        return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())

    time.sleep(0.2)  # connections of the test before may still be closing
    before = {pid: sockets(pid) for pid in server.workers()}
    for _ in range(25):
        connections = [server.connect() for _ in range(8)]
        for connection in connections:
            connection.sendall(request(IMAGE))
            assert b"200 OK" in connection.recv(65536)
        shares = sorted(sockets(pid) - count for pid, count in before.items())
        for connection in connections:
            connection.close()
        assert shares == [4, 4]
        time.sleep(0.02)


def test_requests_in_one_packet_are_answered_in_order(server: RunningServer) -> None:
    with server.connect() as connection:
        images = [encoded(colour) for colour in COLOURS.values()]
        connection.sendall(b"".join(request(image) for image in images))
        connection.shutdown(socket.SHUT_WR)
        answers = read_all(connection)
    bodies = [json.JSONDecoder().raw_decode(part.decode())[0] for part in answers.split(b"\r\n\r\n")[1:]]
    assert [body["predictions"][0]["label"] for body in bodies] == list(COLOURS)


def test_expect_continue_and_head(server: RunningServer) -> None:
    with server.connect() as connection:
        head = request(IMAGE)[: -len(IMAGE)].replace(b"Host: a", b"Host: a\r\nExpect: 100-continue")
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(IMAGE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    answer = server.ask("HEAD", "/health/live")
    assert (answer.status, answer.body) == (200, b"")
    assert server.ask("PUT", "/score").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "image/png", 400, "empty"),
        (b"GIF89a", "image/gif", 415, "not_an_image"),
        (encoded(size=200)[:-60], "image/png", 422, "truncated"),
        (JPEG[: len(JPEG) // 2], "image/jpeg", 422, "truncated"),
        (b"\xff\xd8\xff" + b"\0" * 1000, "image/jpeg", 415, "not_an_image"),
        (b"%PDF-1.7 ", "image/jpeg", 415, "not_an_image"),
        (b"<html>", "text/html", 415, "unsupported_media_type"),
        (b"\0" * (2**20 + 1), "image/jpeg", 413, "body_too_large"),
    ],
    ids=["empty", "cut-gif", "cut-png", "cut-jpeg", "no-jpeg", "pdf", "html", "large"],
)
def test_wrong_bodies(server: RunningServer, body: bytes, kind: str, status: int, code: str) -> None:
    answer = server.ask("POST", "/score", body, Content_Type=kind)
    assert (answer.status, answer.code) == (status, code)


def test_an_image_of_another_type_than_it_says_is_scored(server: RunningServer) -> None:
    assert server.ask("POST", "/score", JPEG, Content_Type="image/png").json["predictions"][0]["label"] == "green"


@pytest.mark.slow
def test_twelve_thousand_squared_pixels_in_a_few_kilobytes(server: RunningServer) -> None:
    stream = io.BytesIO()
    Image.new("L", (12_000, 12_000)).save(stream, "PNG")
    answer = server.score(stream.getvalue())
    assert (answer.status, answer.code) == (413, "image_too_large")


@pytest.mark.slow
def test_a_chunked_body_that_stops_is_ended_by_the_time_limit(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"8\r\n12345678\r\n"
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"request_timeout"' in answer


@pytest.mark.slow
def test_heads_that_are_slow_or_endless_are_refused_while_others_are_served(server: RunningServer) -> None:
    slow = [server.connect() for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nX-")
    assert server.score(IMAGE).status == 200
    for connection in slow:
        assert read_all(connection).startswith(b"HTTP/1.1 408")
        connection.close()
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):  # noqa: PT012 - the server closes on some send, and recv tells what it said
            for _ in range(100):
                connection.sendall(b"X-Filler: " + b"a" * 1000 + b"\r\n")
                time.sleep(0.001)
            assert b"431" in read_all(connection)
            raise OSError("closed after its answer")


@pytest.mark.slow
def test_more_requests_than_the_queue_holds_are_told_to_come_again(server: RunningServer) -> None:
    large = encoded(size=900)
    body = json.dumps({"images": [base64.b64encode(large).decode()] * 60}).encode()
    connections = [server.connect() for _ in range(60)]
    for connection in connections:
        connection.sendall(request(body, kind="application/json"))
    answers = []
    for connection in connections:
        answers.append(connection.recv(65536))
        connection.close()
    codes = Counter(answer.split(b" ")[1] for answer in answers)
    assert codes[b"429"] > 0
    assert set(codes) <= {b"200", b"429", b"503"}
    assert all(b"retry-after: " in answer for answer in answers if b" 200 " not in answer[:16])
    assert server.metric("scoring_rejected_total") == codes[b"429"]
    server.wait(10, lambda: server.score(IMAGE).status == 200)


@pytest.mark.slow
def test_two_thousand_connections_at_once(server: RunningServer) -> None:
    connections = []
    for _ in range(2000):
        connections.append(server.connect())
    for connection in connections:
        connection.sendall(request(JPEG, kind="image/jpeg"))
    codes = Counter[bytes]()
    for connection in connections:
        codes[connection.recv(65536)[:12]] += 1
        connection.close()
    assert set(codes) <= {b"HTTP/1.1 200", b"HTTP/1.1 429"}
    assert codes[b"HTTP/1.1 200"] >= 32  # two queues of 16
    assert server.score(IMAGE).status == 200


def test_reload_needs_its_own_key_and_sense(server: RunningServer, bundles: tuple[Path, Path]) -> None:
    assert server.ask("POST", "/admin/reload").status == 401
    assert server.ask("POST", "/admin/reload", b"[]", X_Api_Key="admin").code == "bad_json"
    body = json.dumps({"bundle": str(bundles[0] / "nothing")})
    refused = server.ask("POST", "/admin/reload", body, X_Api_Key="admin")
    assert (refused.status, refused.code) == (422, "bundle_refused")
    body = json.dumps({"bundle": str(bundles[0].parent)})  # a folder, which the workers refuse
    refused = server.ask("POST", "/admin/reload", body, X_Api_Key="admin")
    assert (refused.status, refused.code) == (422, "bundle_refused")
    assert "\n" not in refused.json["error"]["message"]
    assert server.score(IMAGE).json["predictions"][0]["label"] == "green"


@pytest.mark.slow
def test_five_thousand_malformed_requests_neither_fail_nor_kill(server: RunningServer) -> None:
    """Any answer but a 5xx will do, or none with the connection; benchmarks/malformed.py sends many more."""
    seen = answers_to(server.port, malformed_requests(0), 5000)
    assert not [code for code in seen if code.startswith("5")], seen
    assert seen["200"] > 300
    assert server.score(IMAGE).status == 200


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_forgotten(bundles: tuple[Path, Path]) -> None:
    with serving(bundles[0]) as server:
        for _ in range(10):
            assert server.score(IMAGE).status == 200
        before = server.workers()
        time.sleep(0.2)  # booked ten times a second
        os.kill(before[0], signal.SIGKILL)
        with Load(server, IMAGE) as load:
            server.wait(10, lambda: len(set(server.workers()) - set(before)) == 1)
            server.wait(10, lambda: server.metric("scoring_ready") == 1)
            time.sleep(0.2)
        time.sleep(0.2)
        assert load.statuses[200] > 10
        assert set(load.statuses) == {200}
        assert len(load.errors) <= load.clients, load.errors  # connections that the dying worker still got
        assert server.metric("scoring_images_total") >= 10 + load.statuses[200]
        assert server.metric("scoring_worker_restarts_total") == 1


@pytest.mark.slow
def test_the_model_is_swapped_on_all_workers_and_no_request_is_lost(bundles: tuple[Path, Path]) -> None:
    one, other = bundles
    with serving(one, MLOPS_ADMIN_KEY="admin") as server:
        first = server.ask().json["model"]["id"]
        with Load(server, encoded(COLOURS["blue"]), clients=6) as load:
            time.sleep(0.3)
            for target in (other, one, other):
                body = json.dumps({"bundle": str(target), "version": target.name})
                answer = server.ask("POST", "/admin/reload", body, X_Api_Key="admin")
                assert answer.status == 200
                assert answer.json["model"]["version"] == target.name
                seen = {server.score(IMAGE).json["model"]["id"] for _ in range(8)}
                assert seen == {answer.json["model"]["id"]}
        assert not load.errors
        assert set(load.statuses) == {200}
        assert len(load.models) == 2
        second = server.ask().json["model"]["id"]
        assert first != second
        os.kill(server.workers()[0], signal.SIGKILL)  # the one in its place begins with the new model
        server.wait(10, lambda: server.metric("scoring_worker_restarts_total") == 1)
        server.wait(10, lambda: server.metric("scoring_ready") == 1)
        assert {server.score(IMAGE).json["model"]["id"] for _ in range(8)} == {second}
        assert server.metric("scoring_reloads_total") == 3


@pytest.mark.slow
def test_a_bundle_with_other_classes_is_swapped_in_only_where_that_is_meant(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    other = make_bundle(tmp_path / "other", classes=["azure", "green", "red"])

    def reload(server: RunningServer, **wanted: object) -> Answer:
        return server.ask("POST", "/admin/reload", json.dumps({"bundle": str(other), **wanted}), X_Api_Key="admin")

    with serving(bundles[0], MLOPS_ADMIN_KEY="admin") as server:
        for wanted in ({}, {"other_classes": False}):
            refused = reload(server, **wanted)
            assert (refused.status, refused.code) == (409, "other_classes")
            assert "without blue and with the new azure" in refused.json["error"]["message"]
        assert reload(server, other_classes="yes").code == "bad_json"
        labels = {server.score(encoded(COLOURS["blue"])).json["predictions"][0]["label"] for _ in range(8)}
        assert labels == {"blue"}
        assert server.metric("scoring_ready") == 1
        assert reload(server, other_classes=True).status == 200
        assert {server.score(encoded(COLOURS["blue"])).json["predictions"][0]["label"] for _ in range(8)} == {"azure"}
        os.kill(server.workers()[0], signal.SIGKILL)  # the one in its place serves them, too
        server.wait(10, lambda: server.metric("scoring_worker_restarts_total") == 1 and len(server.workers()) == 2)
        server.wait(10, lambda: server.metric("scoring_ready") == 1)
        assert {server.score(encoded(COLOURS["blue"])).json["predictions"][0]["label"] for _ in range(8)} == {"azure"}


@pytest.mark.slow
def test_a_signal_does_not_change_the_classes(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "served"
    shutil.copytree(bundles[0], folder)
    with serving(folder, "--workers", "1") as server:
        shutil.rmtree(folder)
        make_bundle(folder, classes=["azure", "green", "red"])
        server.process.send_signal(signal.SIGHUP)
        server.wait(20, lambda: "other classes" in server.log.read_text())
        assert server.score(encoded(COLOURS["blue"])).json["predictions"][0]["label"] == "blue"


@pytest.mark.slow
def test_sigterm_answers_what_was_accepted_and_ends(bundles: tuple[Path, Path]) -> None:
    with serving(bundles[0]) as server:
        waiting = [server.connect() for _ in range(20)]
        with Load(server, IMAGE) as load:
            time.sleep(0.3)
            for connection in waiting:
                connection.sendall(request(IMAGE))
            assert server.stop() == 0
        assert set(load.statuses) == {200}
        gone = [error for error in load.errors if "RemoteDisconnected" in error or "Refused" in error]
        assert len(gone) == len(load.errors), load.errors
        assert not [error for error in load.errors if "Disconnected" in error], load.errors
        for connection in waiting:
            assert read_all(connection).startswith(b"HTTP/1.1 200")
            connection.close()
        assert "stopped" in server.log.read_text()


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_group_and_a_dead_supervisor_takes_its_workers_along(
    bundles: tuple[Path, Path],
) -> None:
    with serving(bundles[0]) as server:
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log.read_text()
    with serving(bundles[0]) as server:
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        server.wait(10, lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in workers))


@pytest.mark.slow
def test_a_closed_terminal_stops_the_server(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    code = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    )
    words = ["-m", "vision_mlops", "serve", str(bundles[0]), "--port", "0", "--workers", "1"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, *words, "--port-file", str(port_file)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b""
        while b"serving " not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        assert process.wait(20) == 0, shown.decode()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port_file.read_text())))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_ends_with_the_process_that_started_it_however_that_ends(bundles: tuple[Path, Path]) -> None:
    code = (
        "import pathlib, sys, time; from vision_mlops.serving.launch import running_server\n"
        "with running_server(pathlib.Path(sys.argv[1])) as url:\n    print(url, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(bundles[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as starter:
        try:
            assert starter.stdout is not None
            port = int(starter.stdout.readline().rpartition(":")[2])
            starter.kill()
            deadline = time.monotonic() + 20
            with contextlib.suppress(ConnectionRefusedError):
                while time.monotonic() < deadline:
                    socket.create_connection(("127.0.0.1", port)).close()
                    time.sleep(0.05)
            assert time.monotonic() < deadline, "it still listens"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(starter.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_full_disk_and_a_reader_that_sleeps_do_not_stop_the_answers(bundles: tuple[Path, Path]) -> None:
    with Path("/dev/full").open("wb") as full, serving(bundles[0], ready=False, stderr=full) as server:
        server.wait(20, lambda: server.ask().status == 200)
        assert server.score(IMAGE).status == 200
        server.wait(5, lambda: server.metric("scoring_log_lines_dropped_total") > 0)
    reading, writing = os.pipe()
    with serving(bundles[0], ready=False, stderr=writing) as server:
        server.wait(20, lambda: server.ask().status == 200)
        done = Counter[int]()
        threads = [threading.Thread(target=_many, args=(server, 400, done)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert done == {200: 800}  # some 200 kB of log, of which the pipe holds 64
        server.process.kill()
    os.close(reading)
    os.close(writing)


def _many(server: RunningServer, count: int, done: Counter[int]) -> None:
    for _ in range(count):
        done[server.score(IMAGE).status] += 1


@pytest.mark.slow
def test_a_tampered_bundle_is_alive_but_never_ready_until_a_good_one_comes(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = make_bundle(tmp_path / "b")
    with serving(broken, "--workers", "1", MLOPS_ADMIN_KEY="admin") as server:
        assert server.ask().status == 200
        with (broken / "model.onnx").open("ab") as stream:
            stream.write(b"x")
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait(10, lambda: "was changed" in server.ask().body.decode())
        assert server.ask(path="/health/live").status == 200
        answer = server.score(IMAGE)
        assert (answer.status, answer.code) == (503, "not_ready")
        assert "model.onnx was changed" in answer.json["error"]["message"]
        body = json.dumps({"bundle": str(bundles[0])})
        assert server.ask("POST", "/admin/reload", body, X_Api_Key="admin").status == 200
        assert server.score(IMAGE).status == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "set MLOPS_SCORING_KEY"),
        (["--precision", "f8"], "is not one of 'auto'"),
        (["--precision", ""], "is not one of 'auto'"),
    ],
)
def test_wrong_options_end_with_a_fix(bundles: tuple[Path, Path], options: list[str], words: str) -> None:
    from typer.testing import CliRunner

    from vision_mlops.cli.main import app

    result = CliRunner().invoke(app, ["serve", str(bundles[0]), *options])
    assert words in f"{result.exception} {result.output}"


def test_wrong_limits_in_the_environment_are_named(bundles: tuple[Path, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vision_mlops", "serve", str(bundles[0]), "--port", "0"],
        env={**os.environ, "MLOPS_SERVING__MAX_QUEU": "3"}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "max_queue" in done.stderr


@pytest.mark.slow
def test_keys_change_in_all_workers_and_outlive_their_file(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    def accepted(server: RunningServer, key: str) -> set[bool]:
        """By each of the workers, as connections are dealt in turn."""
        connections = [server.connect() for _ in range(4)]
        head = f"POST /score HTTP/1.1\r\nX-Api-Key: {key}\r\n".encode()
        for connection in connections:
            connection.sendall(request(IMAGE).replace(b"POST /score HTTP/1.1\r\n", head))
        answers = {b" 200 OK" in connection.recv(65536) for connection in connections}
        for connection in connections:
            connection.close()
        return answers

    file = tmp_path / "keys"
    file.write_text("first-key\nother-key\n")
    with serving(bundles[0], MLOPS_SCORING_KEY_FILE=str(file)) as server:
        assert [accepted(server, key) for key in ("first-key", "other-key", "no-key")] == [{True}, {True}, {False}]
        (tmp_path / "new").write_text("other-key\nlast-key\n")
        (tmp_path / "new").replace(file)
        server.wait(15, lambda: accepted(server, "last-key") == {True} and accepted(server, "first-key") == {False})
        assert accepted(server, "other-key") == {True}
        file.unlink()
        server.wait(15, lambda: server.log.read_text().count("the keys stay as they are") == 3)
        old = server.workers()
        os.kill(old[0], signal.SIGKILL)
        server.wait(
            10, lambda: len(server.workers()) == 2 and old[0] not in server.workers() and server.ask().status == 200
        )
        server.wait(15, lambda: accepted(server, "last-key") == {True})
        assert accepted(server, "first-key") == {False}
        assert not any(key in server.log.read_text() for key in ("first-key", "other-key", "last-key"))


@pytest.mark.slow
def test_without_authentication_it_listens_anywhere(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "textile").mkdir()
    (tmp_path / "textile" / "4").symlink_to(bundles[0])
    variables: dict[str, Any] = {
        "MLOPS_AUTH": "none",
        "MLOPS_HOST": "127.0.0.2",
        "MLOPS_MODEL_NAME": "colours",
        "MLOPS_MODEL_VERSION": "4",
    }
    with serving(tmp_path, "--workers", "1", **variables) as server:
        connection = http.client.HTTPConnection("127.0.0.2", server.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/score", IMAGE, {"Content-Type": "image/png"})
            model = json.loads(connection.getresponse().read())["model"]
        assert (model["name"], model["version"]) == ("colours", "4")
