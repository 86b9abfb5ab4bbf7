"""What starts runs on Azure DevOps and GitHub, on loopback: it keeps what it is asked, and refuses as the services do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt

TOKEN = "a token that is taken"
_RUNS = re.compile(r"/org/project/_apis/pipelines/(\d+)/runs")


@dataclass
class RunServices:
    """The services.

    Attributes:
        pipelines: Numbers of pipelines by their names.
        parameters: Names that each pipeline takes.
        first: Statuses of the next answers; 0 closes the connection once the request was read.
        asked: Method, path and body of what was asked.
        token: That is taken.
        audience: Tokens for it are taken, too, where it is not empty.
        url: Where they are.
    """

    pipelines: dict[str, int] = field(default_factory=lambda: {"model_training": 7, "model_deployment": 8})
    parameters: frozenset[str] = frozenset({"model", "digest", "registered"})
    first: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    token: str = TOKEN
    audience: str = ""
    url: str = ""

    @property
    def started(self) -> list[Any]:
        """Bodies of the requests that start something."""
        return [body for method, _, body in self.asked if method == "POST"]

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        """Status and content."""
        bare, _, query = path.partition("?")
        if bare == "/repos/owner/name/dispatches":
            if not self._takes(token):
                return 401, {"message": "Bad credentials"}
            small = len(body.get("client_payload", {})) <= 10
            return (204, None) if body.get("event_type") and small else (422, {"message": "Invalid request."})
        if not self._takes(token):
            return 203, "<html>Azure DevOps Services | Sign In</html>"
        if query != "api-version=7.1":
            return 400, {"message": "No api-version was supplied for the request."}
        if bare == "/org/project/_apis/pipelines" and method == "GET":
            return 200, {"value": [{"id": number, "name": name} for name, number in self.pipelines.items()]}
        found = _RUNS.fullmatch(bare)
        if method != "POST" or not found or int(found[1]) not in self.pipelines.values():
            return 404, {"message": f"TF51011: there is nothing at {bare}."}
        unknown = set(body.get("templateParameters", {})) - self.parameters
        if unknown:
            return 400, {"message": f"Unexpected parameter '{sorted(unknown)[0]}'"}
        return 200, {"id": 41, "_links": {"web": {"href": f"{self.url}/org/project/_build/results?buildId=41"}}}

    def _takes(self, token: str) -> bool:
        if not self.audience or token == self.token:
            return token == self.token
        try:
            return bool(jwt.decode(token, options={"verify_signature": False})["aud"] == self.audience)
        except jwt.InvalidTokenError:
            return False


@contextmanager
def run_services() -> Iterator[RunServices]:
    """Run them."""
    services = RunServices()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head

        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def _do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(content) if content else None
            services.asked.append((self.command, self.path, body))
            status: int
            answer: Any
            if services.first:
                status, answer = services.first.pop(0), {"message": "not now"}
                if not status:
                    self.close_connection = True
                    return
            else:
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, answer = services.answer(self.command, self.path, token, body)
            text = (
                b"" if answer is None else answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        services.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield services
        finally:
            server.shutdown()
            thread.join()
