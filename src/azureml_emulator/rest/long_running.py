"""Long-running operations: 202, then polling until they are done."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, missing, reply, route


@dataclass
class LongRunningOperation:
    """Work that the service does while the client polls."""

    id: str
    polls_left: int
    finish: Callable[[], Json | None]
    until: Callable[[], bool] = lambda: True
    error: ServiceRefusalError | None = None
    done: bool = False
    result: Json | None = None

    def poll(self) -> str:
        """Poll it once; it ends when it was polled often enough."""
        if not self.done and self.polls_left <= 0 and self.until():
            self.done = True
            try:
                self.result = self.finish()
            except ServiceRefusalError as refusal:
                self.error = refusal
        self.polls_left -= 1
        if not self.done:
            return "InProgress"
        return "Failed" if self.error else "Succeeded"


class LongRunningOperations:
    """The operations in progress. ``polls`` is how often a new one reports that it is not done yet.

    With ``alone``, they also end without being polled, after that many seconds.
    """

    polls = 1
    alone: float | None = None

    def __init__(self, base_url: Callable[[], str]) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._known: dict[str, LongRunningOperation] = {}

    def start(
        self,
        finish: Callable[[], Json | None],
        body: Json | None = None,
        status: int = 202,
        until: Callable[[], bool] = lambda: True,
    ) -> Response:
        """Begin an operation and return the address to poll.

        Args:
            finish: Does the work at the end; a :class:`ServiceRefusalError` that it raises makes the operation fail.
            body: The resource as it is while the work is in progress.
            status: 202, or 201 if a resource is being created.
            until: Returns whether the work may end, for work without a fixed duration.
        """
        operation = LongRunningOperation(str(uuid.uuid4()), self.polls, finish, until)
        with self._lock:
            self._known[operation.id] = operation
        if self.alone is not None:
            threading.Timer(self.alone, self._end, [operation]).start()
        # A plain Retry-After of 0 makes the SDK wait for its default of some seconds.
        headers = {"Azure-AsyncOperation": f"{self._base_url()}/operations/{operation.id}", "x-ms-retry-after-ms": "10"}
        if status == 202:  # the final response is available there as well
            headers["Location"] = f"{self._base_url()}/operationresults/{operation.id}"
        return reply(body, status, headers)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._known.clear()

    def routes(self) -> list[Route]:
        """Return the paths for polling."""
        return [
            route("/operations/{id}", GET=self._status),
            route("/operationresults/{id}", GET=self._result),
        ]

    def _end(self, operation: LongRunningOperation) -> None:
        with self._lock:
            operation.polls_left = 0
            operation.poll()

    def _find(self, call: RestCall) -> LongRunningOperation:
        with self._lock:
            found = self._known.get(call.names["id"])
        if found is None:
            raise missing(f"operation {call.names['id']!r}")
        return found

    def _status(self, call: RestCall) -> Response:
        operation = self._find(call)
        with self._lock:
            status = operation.poll()
        body: Json = {"id": call.path, "name": operation.id, "status": status}
        if operation.error is not None:
            body["error"] = operation.error.body()
        return reply(body, headers={"x-ms-retry-after-ms": "10"})

    def _result(self, call: RestCall) -> Response:
        operation = self._find(call)
        with self._lock:
            status = operation.poll()
        if status == "InProgress":
            return reply(None, 202, {"Location": f"{self._base_url()}{call.path}", "x-ms-retry-after-ms": "10"})
        if operation.error is not None:
            return operation.error.response()
        return reply(operation.result) if operation.result is not None else reply(None, 204)
