"""RFC 9112 on one connection: which messages are requests, where each ends, and what becomes of the connection."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest
from testing.support.bundles import make_bundle
from testing.support.scoring_servers import in_process

LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"  # its body is read, and is no image
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with in_process(make_bundle(tmp_path_factory.mktemp("bundle") / "b")) as url:
        yield int(url.rpartition(":")[2])


def exchange(port: int, data: bytes, *, ends: bool = True) -> bytes:
    """All that comes back to some bytes, until the server closes, which is told that no more will come."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answer)]


def get(*headers: bytes, target: bytes = b"/health/live", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET %b %b\r\n%b\r\n" % (target, version, b"".join(header + b"\r\n" for header in headers))


def chunks(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + CHUNKED + more + b"\r\n" + body


# What a sound request must do: be answered, and leave the request behind it whole.
SOUND: dict[str, tuple[bytes, int]] = {
    "plain": (LIVE, 200),
    "length": (HEAD + b"Content-Length: 3\r\n\r\nabc", 415),
    "length-zero": (HEAD + b"Content-Length: 0\r\n\r\n", 400),
    "length-zeros-before": (HEAD + b"Content-Length: 003\r\n\r\nabc", 415),
    "length-blank-behind": (HEAD + b"Content-Length: 3 \t\r\n\r\nabc", 415),
    "no-length": (HEAD + b"\r\n", 400),
    "chunked": (chunks(b"3\r\nabc\r\n0\r\n\r\n"), 415),
    "chunked-upper": (HEAD + b"transfer-encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 415),
    "chunk-size-upper": (chunks(b"A\r\nabcdefghij\r\n0\r\n\r\n"), 415),
    "chunk-size-zeros": (chunks(b"0003\r\nabc\r\n000\r\n\r\n"), 415),
    "chunk-extension": (chunks(b'3;a;b=c;d="e;\\"f"\r\nabc\r\n0;last\r\n\r\n'), 415),
    "trailers": (chunks(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Request-Id: 9\r\n\r\n"), 415),
    "body-on-get": (b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 200),
    "body-on-head": (b"HEAD /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 200),
    "empty-lines-before": (b"\r\n\r\n" + LIVE, 200),
    "absolute-form": (get(b"Host: b", target=b"http://a/health/live?x=1"), 200),
    "absolute-form-https": (get(b"Host: a", target=b"HTTPS://a:8000/health/live"), 200),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 204),
    "options": (b"OPTIONS /score HTTP/1.1\r\nHost: a\r\n\r\n", 204),
    "host-empty": (get(b"Host:"), 200),
    "host-port": (get(b"Host: example.com:8000"), 200),
    "host-ipv6": (get(b"Host: [::1]:8000"), 200),
    "host-blanks-around": (get(b"Host:\t example.com \t"), 200),
    "value-empty": (get(b"Host: a", b"X-Empty:"), 200),
    "value-latin-1": (get(b"Host: a", b"X-Name: \xfc"), 200),
    "offer-h2c-get": (get(b"Host: a", OFFER.strip()), 200),
    "offer-h2c-length": (HEAD + OFFER + b"Content-Length: 3\r\n\r\nabc", 415),
    "offer-h2c-chunked": (chunks(b"3\r\nabc\r\n0\r\n\r\n", OFFER), 415),
    "offer-websocket": (get(b"Host: a", WEBSOCKET.strip()), 200),
    "offer-tls": (get(b"Host: a", b"Connection: upgrade", b"Upgrade: TLS/1.2, h2c"), 200),
    "offer-without-connection": (HEAD + b"Upgrade: h2c\r\nContent-Length: 3\r\n\r\nabc", 415),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status"), SOUND.values(), ids=SOUND)
def test_a_sound_request_is_answered_once_and_the_next_one_too(port: int, data: bytes, status: int) -> None:
    assert statuses(exchange(port, data + LIVE)) == [status, 200]


@pytest.mark.parametrize("name", ["length", "chunked", "offer-h2c-length", "offer-h2c-chunked", "offer-h2c-get"])
def test_how_a_request_is_cut_into_packets_does_not_matter(port: int, name: str) -> None:
    data, status = SOUND[name]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(len(data)):
            connection.sendall(data[start : start + 1])
        connection.sendall(LIVE)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert statuses(answer) == [status, 200]


# What nobody can tell the end of, or what two servers might read in two ways: refused, and nothing behind it is read.
UNSOUND: dict[str, bytes] = {
    "length-twice": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length-twice-different": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length-list": HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    "length-plus": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "length-negative": HEAD + b"Content-Length: -3\r\n\r\nabc",
    "length-blank-within": HEAD + b"Content-Length: 3 3\r\n\r\nabc",
    "length-empty": HEAD + b"Content-Length:\r\n\r\nabc",
    "length-hexadecimal": HEAD + b"Content-Length: 0x3\r\n\r\nabc",
    "length-float": HEAD + b"Content-Length: 3.0\r\n\r\nabc",
    "length-beyond-64-bits": HEAD + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "length-and-chunked": HEAD + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked-and-length": HEAD + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "coding-unknown": HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "coding-before-chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding-behind-chunked": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "coding-chunked-twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding-identity": HEAD + b"Transfer-Encoding: identity\r\n\r\nabc",
    "coding-two-lines": HEAD + b"Transfer-Encoding: identity\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "coding-nearly-chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding-quoted": HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding-vertical-tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "coding-blank-before-colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "coding-behind-a-line-feed": HEAD + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding-in-1.0": b"POST /score HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunk-size-prefix": chunks(b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk-size-plus": chunks(b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk-size-negative": chunks(b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk-size-blank": chunks(b" 3\r\nabc\r\n0\r\n\r\n"),
    "chunk-size-empty": chunks(b"\r\nabc\r\n0\r\n\r\n"),
    "chunk-size-beyond-64-bits": chunks(b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "chunk-longer-than-said": chunks(b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk-shorter-than-said": chunks(b"5\r\nabc\r\n0\r\n\r\n"),
    "chunk-line-feeds": chunks(b"3\nabc\n0\n\n"),
    "chunk-extension-line-feed": chunks(b"3;a\nabc\r\n0\r\n\r\n"),
    "trailer-line-feed": chunks(b"0\r\nX: y\n\r\n"),
    "line-feeds": b"GET /health/live HTTP/1.1\nHost: a\n\n",
    "line-feed-behind-a-header": b"GET /health/live HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "line-feed-at-the-end": b"GET /health/live HTTP/1.1\r\nHost: a\r\n\n",
    "carriage-return": b"GET /health/live HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "carriage-return-in-a-value": get(b"Host: a", b"X: a\rb"),
    "nul-in-a-value": get(b"Host: a", b"X: a\0b"),
    "folded": get(b"Host: a", b"X: a\r\n b"),
    "folded-first": get(b" Host: a"),
    "blank-before-colon": get(b"Host : a"),
    "name-empty": get(b"Host: a", b": b"),
    "name-with-a-blank": get(b"Host: a", b"X Y: b"),
    "name-in-latin-1": get(b"Host: a", b"X\xfc: b"),
    "no-colon": get(b"Host: a", b"nonsense"),
    "no-host": get(),
    "two-hosts": get(b"Host: a", b"Host: b"),
    "two-equal-hosts": get(b"Host: a", b"Host: a"),
    "host-with-a-path": get(b"Host: a/b"),
    "host-with-a-blank": get(b"Host: a b"),
    "host-list": get(b"Host: a, b@c"),
    "authority-form": get(b"Host: a", target=b"a:80"),
    "asterisk-form-of-get": get(b"Host: a", target=b"*"),
    "address-without-host": get(b"Host: a", target=b"http:///health/live"),
    "relative": get(b"Host: a", target=b"health/live"),
    "blank-in-the-target": get(b"Host: a", target=b"/health/live now"),
    "target-in-latin-1": get(b"Host: a", target=b"/\xfc"),
    "target-with-nul": get(b"Host: a", target=b"/\0"),
    "method-lower": b"get /health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "method-unknown": b"FETCH /health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank-before-the-method": b" " + LIVE,
    "tab-behind-the-method": b"GET\t/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "version-0.9": b"GET /health/live\r\n\r\n",
    "version-0.9-said": get(b"Host: a", version=b"HTTP/0.9"),
    "version-1.2": get(b"Host: a", version=b"HTTP/1.2"),
    "version-2": get(b"Host: a", version=b"HTTP/2.0"),
    "version-lower": get(b"Host: a", version=b"http/1.1"),
    "version-blank-behind": get(b"Host: a", version=b"HTTP/1.1 "),
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
}  # fmt: skip


@pytest.mark.parametrize("data", UNSOUND.values(), ids=UNSOUND)
def test_an_unsound_request_is_refused_and_nothing_behind_it_is_read(port: int, data: bytes) -> None:
    answer = exchange(port, data + LIVE)
    assert statuses(answer) == [400]
    assert b'"code": "bad_request"' in answer
    assert b"\r\nconnection: close\r\n" in answer


def test_requests_before_an_unsound_one_are_answered(port: int) -> None:
    assert statuses(exchange(port, LIVE + LIVE + UNSOUND["two-hosts"] + LIVE)) == [200, 200, 400]


def test_connect_and_other_expectations_are_refused(port: int) -> None:
    connect = exchange(port, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + LIVE)
    assert statuses(connect) == [405]
    assert b"\r\nallow: GET, HEAD, POST, OPTIONS\r\n" in connect
    assert statuses(exchange(port, HEAD + b"Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc" + LIVE)) == [417]


@pytest.mark.parametrize(
    ("version", "connection", "stays", "says"),
    [
        (b"HTTP/1.1", b"", True, None), (b"HTTP/1.1", b"close", False, b"close"), (b"HTTP/1.1", b"Close", False, b"close"),
        (b"HTTP/1.1", b"foo, close", False, b"close"), (b"HTTP/1.1", b"close, keep-alive", False, b"close"),
        (b"HTTP/1.1", b"closed", True, None), (b"HTTP/1.1", b"keep-alive\r\nConnection: close", False, b"close"),
        (b"HTTP/1.0", b"", False, b"close"), (b"HTTP/1.0", b"Keep-Alive", True, b"keep-alive"),
        (b"HTTP/1.0", b"te, keep-alive", True, b"keep-alive"), (b"HTTP/1.0", b"close, keep-alive", False, b"close"),
    ],
)  # fmt: skip
def test_the_connection_stays_open_where_both_want_it(
    port: int, version: bytes, connection: bytes, stays: bool, says: bytes | None
) -> None:
    """A client of HTTP/1.0, such as ab, waits for the end of the connection unless it is told that it stays."""
    wanted = (b"Connection: " + connection,) if connection else ()
    answer = exchange(port, get(b"Host: a", *wanted, version=version) + (LIVE if stays else b""), ends=stays)
    assert statuses(answer) == [200, 200] if stays else [200]
    said = re.search(rb"\r\nconnection: ([a-z-]+)\r\n", answer.partition(b"\r\n\r\n")[0] + b"\r\n")
    assert (said[1] if said else None) == says


def test_host_is_needed_since_1_1_only(port: int) -> None:
    assert statuses(exchange(port, get(version=b"HTTP/1.0"))) == [200]
    assert statuses(exchange(port, get(b"Host: a", b"Host: b", version=b"HTTP/1.0"))) == [400]


def test_answers_to_head_and_options_have_no_body(port: int) -> None:
    head = exchange(port, b"HEAD /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"\r\ncontent-length: 18\r\n" in head
    options = exchange(port, b"OPTIONS /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert options.endswith(b"\r\n\r\n")
    assert b"\r\nallow: GET, HEAD, OPTIONS\r\n" in options
    assert b"content-length" not in options


def test_go_on_is_said_in_turn_and_not_to_1_0(port: int) -> None:
    """Behind another request, too: a client may wait for it however long."""
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    first = expecting.replace(b"Expect: 100-continue\r\n", b"") + b"abc"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(first + expecting)
        answer = b""
        while b"100 Continue" not in answer:
            answer += connection.recv(65536)
        connection.sendall(b"abc")
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            answer += chunk
    assert statuses(answer) == [415, 100, 415]
    assert 100 not in statuses(exchange(port, expecting.replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc"))


def test_a_client_that_is_refused_before_its_body_cannot_have_it_taken_for_a_request(port: int) -> None:
    """It may send the body or leave it out; so the connection ends."""
    refused = b"POST /nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(LIVE)
    answer = exchange(port, refused + LIVE)
    assert statuses(answer) == [404]
    assert b"\r\nconnection: close\r\n" in answer


FILLER = b"X-Filler: " + b"a" * 1000


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(b"Host: a", *[FILLER] * 63), 200),
        (get(b"Host: a", *[FILLER] * 70), 431),
        (get(b"Host: a", b"X: " + b"a" * 70_000), 431),
        (get(b"Host: a", target=b"/health/live?" + b"a" * 70_000), 431),
        (get(target=b"/health/live?" + b"a" * 70_000, version=b"HTTP/1.0"), 431),
        (get(b"Host: a", *[b"a:"] * 14_000), 431),
        (chunks(b"3\r\nabc\r\n0\r\n" + (FILLER + b"\r\n") * 70 + b"\r\n"), 431),
        (LIVE * 2 + get(b"Host: a", *[FILLER] * 70), 431),
    ],
    ids=["62-kB", "70-kB", "one-header", "target", "target-1.0", "many-headers", "trailers", "behind-others"],
)
def test_a_head_is_limited_however_it_comes(port: int, data: bytes, status: int) -> None:
    assert statuses(exchange(port, data))[-1] == status


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", chunks(b"0\r\nX: "), chunks(b"3;")],
                         ids=["target", "header", "trailer", "extension"])  # fmt: skip
def test_what_never_ends_is_cut_off_before_it_fills_the_memory(port: int, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(start)
        for _ in range(15):
            connection.sendall(b"a" * 10_000)
            time.sleep(0.005)
        assert statuses(connection.recv(65536)) == [431]


def test_a_small_head_behind_a_large_body_is_not_taken_for_a_large_one(port: int) -> None:
    """Both may come in one read, and the head in two."""
    large = HEAD + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for _ in range(5):
            connection.sendall(large + LIVE[:30])
            connection.sendall(LIVE[30:])
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert statuses(answer) == [415, 200] * 5


def test_an_answer_to_a_broken_request_is_seen_while_more_is_sent(port: int) -> None:
    """A connection that is closed at once would be reset, and the answer with it."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(UNSOUND["two-hosts"])
        for _ in range(20):
            connection.sendall(b"x" * 1000)
            time.sleep(0.005)
        assert statuses(connection.recv(65536)) == [400]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
        (get(b"Host: a", b"Expect: miracles"), 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    ],
    ids=["no-http", "no-host", "expectation", "large-head"],
)
def test_an_answer_to_what_cannot_be_read_has_an_id(port: int, sent: bytes, status: int) -> None:
    answer = exchange(port, sent)
    assert statuses(answer) == [status]
    assert re.search(rb"\r\nx-request-id: [0-9a-f]{32}\r\n", answer)


def test_the_id_of_a_client_is_kept_where_its_head_is_refused(port: int) -> None:
    answer = exchange(port, get(b"Host: a", b"X-Request-Id: mine-1", b"Expect: miracles"))
    assert statuses(answer) == [417]
    assert b"\r\nx-request-id: mine-1\r\n" in answer
