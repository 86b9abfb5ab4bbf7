"""One request on its way through the router, and its copy for a deployment that is being tested."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from vision_mlops.endpoints.local.router.backend import Backend
from vision_mlops.endpoints.local.router.traffic_shares import Shares
from vision_mlops.endpoints.local.router.upstream import Upstream
from vision_mlops.serving.http.http_messages import HeaderList, Request, Response

_TRIES = 2
_PASSED_ON = (b"content-type", b"content-encoding", b"traceparent", b"tracestate")
RETRY = ((b"retry-after", b"1"),)


class Router(Protocol):
    """What an exchange needs of the router that it belongs to."""

    shares: Shares
    mirror: Mirror | None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background."""


class Exchange:
    """A request, and the deployment that responds to it.

    If a connection breaks, the request is sent once more, on a new connection: a server that was just ended has read
    nothing of it, and scoring an image twice changes nothing. If that breaks as well, or the server accepts no connection,
    another deployment with traffic gets the request once, unless the request has picked its deployment.

    Args:
        app: The router.
        request: The request.
        backend: The deployment to begin with.
        picked: Whether the request names it.
    """

    __slots__ = ("_abandoned", "_refused", "_tries", "_upstream", "app", "backend", "body", "head", "picked", "request")

    def __init__(self, app: Router, request: Request, backend: Backend, *, picked: bool) -> None:
        self.app = app
        self.request = request
        self.backend = backend
        self.picked = picked
        self.body = request.body
        self.head = _head(request)
        self._abandoned = False
        self._upstream: Upstream | None = None
        self._tries = 0
        self._refused: list[Backend] = []

    def start(self) -> None:
        """Send the request."""
        backend = self.backend
        backend.in_flight += 1
        upstream = backend.pool.take()
        if upstream is None:
            self.app.spawn(self._connect())
        else:
            self._send(upstream)

    def abandon(self) -> None:
        """End it: nobody waits for the response any more."""
        self._abandoned = True
        self._let_go()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self.backend.in_flight -= 1
            upstream.abandon()

    def answered(self, status: int, kind: bytes, headers: HeaderList, body: bytes, seconds: float) -> None:
        """Pass the response on."""
        backend = self.backend
        self._upstream = None
        backend.in_flight -= 1
        backend.counters.answered(status, seconds)
        response = Response(status, body, kind, (*headers, (b"azureml-model-deployment", backend.header)))
        self.request.connection.respond(self.request, response)
        mirror = self.app.mirror
        if mirror is not None and not self.picked and self.request.path == "/score":
            mirror.offer(self, status, body)
        self._let_go()

    def broken(self) -> None:
        """Try again, as the connection broke before the response was whole."""
        self._upstream = None
        self.backend.in_flight -= 1
        if self._tries > _TRIES:
            self._fail(self.backend)
            return
        if self._tries == _TRIES:  # a server that is ending may also accept a connection, and break it
            self._refused.append(self.backend)
        self._again()

    def _send(self, upstream: Upstream) -> None:
        self._tries += 1
        self._upstream = upstream
        upstream.send(self, self.head, self.body)

    async def _connect(self) -> None:
        backend = self.backend
        try:
            upstream = await backend.pool.connect()
        except OSError:
            backend.in_flight -= 1
            if not self._abandoned:
                self._refused.append(backend)
                self._again()
            return
        if self._abandoned:
            backend.in_flight -= 1
            backend.pool.give(upstream)
        else:
            self._send(upstream)

    def _again(self) -> None:
        """Try the same deployment on a new connection, or another one that has traffic."""
        former = self.backend
        if former in self._refused or not former.ready:
            other = None if self.picked else self.app.shares.largest(without=[*self._refused, former])
            if other is None:
                self._fail(former)
                return
            former.counters.failed()
            self.backend = other
        self.backend.in_flight += 1
        self.app.spawn(self._connect())

    def _fail(self, backend: Backend) -> None:
        backend.counters.failed()
        message = f"deployment {backend.name} does not respond; try again in 1 s"
        self.request.connection.respond(self.request, Response.error(503, "no_answer", message, RETRY))
        self._let_go()

    def _let_go(self) -> None:
        """Release the image: request and exchange refer to each other, so it would wait for the garbage collector."""
        self.head = self.body = b""


class Copy:
    """A copy of a request, whose response is compared with the one that the caller got, and then discarded."""

    __slots__ = ("body", "head", "label", "mirror", "upstream")

    def __init__(self, mirror: Mirror, exchange: Exchange, status: int, response: bytes) -> None:
        self.mirror = mirror
        self.head = exchange.head
        self.body = exchange.body
        self.label = response if status == 200 else b""

    def answered(self, status: int, kind: bytes, headers: HeaderList, body: bytes, seconds: float) -> None:
        """Compare the mirror's response with the one that the caller got."""
        counters = self.mirror.backend.counters
        counters.answered(status, seconds)
        if status == 200 and self.label:
            counters.compared += 1
            counters.disagreed += labels(self.label) != labels(body)
        self.mirror.ended()

    def broken(self) -> None:
        """Note that the mirror gave no response."""
        self.mirror.backend.counters.failed()
        self.mirror.ended()


class Mirror:
    """Sends copies of requests to a deployment, a few at a time; if it does not keep up, they are dropped.

    Args:
        app: The router.
        backend: Deployment that gets the copies.
        percent: Percentage of the requests that are copied.
    """

    AT_ONCE = 4
    MOST_WAITING = 64
    MOST_BYTES = 64 * 2**20

    def __init__(self, app: Router, backend: Backend, percent: int) -> None:
        self.backend = backend
        self._app = app
        self._percent = percent
        self._credit = 0
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._running = 0

    def offer(self, exchange: Exchange, status: int, response: bytes) -> None:
        """Copy a request that has had its response, if it is its turn and the queue is not full."""
        self._credit += self._percent
        if self._credit < 100:
            return
        self._credit -= 100
        size = len(exchange.body)
        if not self.backend.ready or len(self._waiting) >= self.MOST_WAITING or self._bytes + size > self.MOST_BYTES:
            self.backend.counters.dropped += 1
            return
        self._waiting.append(Copy(self, exchange, status, response))
        self._bytes += size
        self._send_waiting()

    def ended(self) -> None:
        """Note that a copy has had its response, or will not get one."""
        self._running -= 1
        self.backend.in_flight -= 1
        self._send_waiting()

    def stop(self) -> None:
        """Send no further copies."""
        self._waiting.clear()

    def _send_waiting(self) -> None:
        while self._waiting and self._running < self.AT_ONCE:
            copy = self._waiting.popleft()
            self._bytes -= len(copy.body)
            self._running += 1
            self.backend.in_flight += 1
            upstream = self.backend.pool.take()
            if upstream is None:
                self._app.spawn(self._connect(copy))
            else:
                upstream.send(copy, copy.head, copy.body)

    async def _connect(self, copy: Copy) -> None:
        try:
            upstream = await self.backend.pool.connect()
        except OSError:
            copy.broken()
        else:
            upstream.send(copy, copy.head, copy.body)


def labels(response: bytes) -> list[str] | None:
    """Return the most probable class of each image of a response; None if it is something else."""
    try:
        content = json.loads(response)
        results = content.get("results", [content])
        return [result["predictions"][0]["label"] for result in results]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        return None


def _head(request: Request) -> bytes:
    """Return the head of the request to a server: what it reads, and nothing else."""
    method = "GET" if request.method == "HEAD" else request.method
    head = b"%b %b HTTP/1.1\r\nhost: localhost\r\nx-request-id: %b\r\n" % (
        method.encode(), request.url, request.request_id.encode()
    )  # fmt: skip
    headers = request.headers
    for name in _PASSED_ON:
        value = headers.get(name)
        if value is not None:
            head += b"%b: %b\r\n" % (name, value)
    return head + b"content-length: %d\r\n\r\n" % len(request.body)
