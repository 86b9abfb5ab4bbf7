"""The running service: sign-in, versions, faults on demand, and a log of what was asked."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from testing.support.azure_devops import library_operations, pipeline_operations, project_operations
from testing.support.azure_devops.calls import Call, Operation
from testing.support.azure_devops.organization import Organization
from testing.support.azure_devops.refusals import RefusalError, forbidden

from azureml_emulator.identity.loopback_tokens import check
from azureml_emulator.rest.rest_calls import ServiceRefusalError

AUDIENCE = "499b84ac-1321-427f-aa17-267ca6975798"
PAT = "a personal access token of the loopback service"
USER = "11111111-1111-1111-1111-111111111111"
OPERATIONS = (*project_operations.OPERATIONS, *library_operations.OPERATIONS, *pipeline_operations.OPERATIONS)
_SIGN_IN = b"<html><title>Azure DevOps Services | Sign In</title></html>"


@dataclass
class Fault:
    """What strikes requests.

    Attributes:
        pattern: Of method and path, such as ``POST .*/environments``.
        status: Of the response; 0 drops the connection before anything is done, -1 after it was done.
        times: How many requests it strikes.
        after: How many it lets pass first.
        headers: Of the response.
    """

    pattern: str
    status: int
    times: int = 1
    after: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A request with its response."""

    method: str
    path: str
    status: int
    operation: Operation | None = None
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    answer: Any = None


class AzureDevOps:
    """One organization at an address of its own.

    Attributes:
        lacks: Permissions that the caller does not have, as in the operations.
        faults: What strikes the next requests.
        seen: All requests so far.
    """

    def __init__(self) -> None:
        self.organization = Organization()
        self.url = ""
        self.lacks: set[str] = set()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.tokens = {f"Basic {base64.b64encode(f':{PAT}'.encode()).decode()}"}
        self._lock = threading.Lock()

    def writes(self) -> list[str]:
        """Method and path of all requests that are no reads."""
        return [f"{each.method} {each.path}" for each in self.seen if each.method != "GET"]

    def fault(self, method: str, path: str) -> Fault | None:
        """What strikes a request."""
        with self._lock:
            for each in self.faults:
                if not re.fullmatch(each.pattern, f"{method} {path}"):
                    continue
                if each.after:
                    each.after -= 1
                    continue
                each.times -= 1
                if not each.times:
                    self.faults.remove(each)
                return each
        return None

    def respond(self, method: str, target: str, authorization: str, body: Any) -> tuple[int, Any, Seen]:
        """Status and content of the response; bytes are a page for people."""
        parts = urlsplit(target)
        path, query = unquote(parts.path).lstrip("/"), dict(parse_qsl(parts.query, keep_blank_values=True))
        name, _, below = path.partition("/")
        operation: Operation | None = None
        answer: Any = None
        if name != self.organization.name:
            status, answer = 404, b"<html>The resource cannot be found.</html>"
        elif not authorization:
            status, answer = 203, _SIGN_IN
        elif not self._knows(authorization):
            status, answer = 401, _SIGN_IN
        else:
            try:
                operation, names = self._operation(method, below)
                operation.check_version(method, query.get("api-version", ""))
                if operation.permission and operation.permission in self.lacks:
                    raise forbidden(USER, operation.permission)
                with self._lock:
                    status, answer = operation.handler(Call(self.organization, method, names, query, body, USER))
            except RefusalError as refusal:
                status, answer = refusal.status, refusal.body()
        return status, answer, Seen(method, below, status, operation, query, body, answer)

    def _knows(self, authorization: str) -> bool:
        """Whether it is a personal access token of here, or a token of Microsoft Entra ID that is meant for Azure DevOps."""
        if authorization in self.tokens:
            return True
        try:
            check(authorization, (AUDIENCE,))
        except ServiceRefusalError:
            return False
        return True

    def _operation(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        for operation in OPERATIONS:
            if match := operation.match(method, path):
                return operation, match.groupdict()
        message = f"The controller for path '/{path}' was not found or does not implement IController."
        raise RefusalError(404, "HttpException", message)


class _Handler(BaseHTTPRequestHandler):
    service: AzureDevOps
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head

    def _serve(self) -> None:
        service, raw = self.service, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        fault = service.fault(self.command, path)
        if fault is not None and fault.status >= 0:
            service.seen.append(Seen(self.command, path, fault.status))
            if not fault.status:
                self._drop()
                return
            refusal = RefusalError(fault.status, "FaultException", "The request was struck by a fault.")
            self._answer(fault.status, refusal.body(), fault.headers)
            return
        body = json.loads(raw) if raw else None
        status, answer, seen = service.respond(self.command, self.path, self.headers.get("Authorization", ""), body)
        service.seen.append(seen)
        if fault is not None:
            self._drop()
            return
        self._answer(status, answer, {})

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        page = isinstance(answer, bytes)
        content = answer if page else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815 - as the library calls them

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the service keeps a log of its own."""


@contextmanager
def running_azure_devops() -> Iterator[AzureDevOps]:
    """The service on a free port of this machine; ``url`` is the address of its organization."""
    service = AzureDevOps()
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}/{service.organization.name}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
