"""Long-running operations: 202, then polling until they are done."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route
from testing.fakes.calls import Call, Json, RefusalError, missing, reply, route


@dataclass
class Operation:
    """Work that the service does while the client polls."""

    id: str
    polls_left: int
    finish: Callable[[], Json | None]
    until: Callable[[], bool] = lambda: True
    error: RefusalError | None = None
    done: bool = False
    result: Json | None = None

    def poll(self) -> str:
        """One look at it; it ends when it was looked at often enough."""
        if not self.done and self.polls_left <= 0 and self.until():
            self.done = True
            try:
                self.result = self.finish()
            except RefusalError as refusal:
                self.error = refusal
        self.polls_left -= 1
        if not self.done:
            return "InProgress"
        return "Failed" if self.error else "Succeeded"


class Operations:
    """The operations under way. ``polls`` is how often a new one answers that it is not done yet."""

    polls = 1

    def __init__(self, base_url: Callable[[], str]) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._known: dict[str, Operation] = {}

    def start(
        self,
        finish: Callable[[], Json | None],
        body: Json | None = None,
        status: int = 202,
        location: bool = False,
        until: Callable[[], bool] = lambda: True,
    ) -> Response:
        """Begin an operation and answer with where to poll it.

        Args:
            finish: Does the work at the end; a :class:`RefusalError` that it raises makes the operation fail.
            body: The resource as it is while the work goes on.
            status: 202, or 201 where a resource is being made.
            location: The final answer is to be had at ``Location`` as well, for calls without a resource.
            until: Whether the work may be over, for work that takes as long as it takes.
        """
        operation = Operation(str(uuid.uuid4()), self.polls, finish, until)
        with self._lock:
            self._known[operation.id] = operation
        # A plain Retry-After of 0 makes the SDK wait for its default of seconds.
        headers = {"Azure-AsyncOperation": f"{self._base_url()}/operations/{operation.id}", "x-ms-retry-after-ms": "10"}
        if location:
            headers["Location"] = f"{self._base_url()}/operationresults/{operation.id}"
        return reply(body, status, headers)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._known.clear()

    def routes(self) -> list[Route]:
        """Where operations are polled."""
        return [
            route("/operations/{id}", GET=self._status),
            route("/operationresults/{id}", GET=self._result),
        ]

    def _find(self, call: Call) -> Operation:
        with self._lock:
            found = self._known.get(call.names["id"])
        if found is None:
            raise missing(f"operation {call.names['id']!r}")
        return found

    def _status(self, call: Call) -> Response:
        operation = self._find(call)
        with self._lock:
            status = operation.poll()
        body: Json = {"id": call.path, "name": operation.id, "status": status}
        if operation.error is not None:
            body["error"] = {"code": operation.error.code, "message": operation.error.message}
        return reply(body, headers={"x-ms-retry-after-ms": "10"})

    def _result(self, call: Call) -> Response:
        operation = self._find(call)
        with self._lock:
            status = operation.poll()
        if status == "InProgress":
            return reply(None, 202, {"Location": f"{self._base_url()}{call.path}", "x-ms-retry-after-ms": "10"})
        if operation.error is not None:
            return operation.error.response()
        return reply(operation.result) if operation.result is not None else reply(None, 204)
