"""The REST API of Azure DevOps that pipelines call: runs are started, pipelines found, connections give federated tokens."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from testing.support.azure_pipelines.pipeline_errors import PipelineError

from azureml_emulator.identity.loopback_tokens import check, token
from azureml_emulator.rest.rest_calls import ServiceRefusalError

if TYPE_CHECKING:
    from testing.support.azure_pipelines.organisation import Organisation

AUDIENCE = "499b84ac-1321-427f-aa17-267ca6975798"
"""The application id of Azure DevOps, for which Entra gives tokens."""
_EXCHANGE = "api://AzureADTokenExchange"
_VERSION = "7.1"
RUNS = re.compile(r"/_apis/pipelines/(\d+)/runs$")
"""Where runs are started; the number is that of the pipeline."""
_BODY = ("resources", "templateParameters", "stagesToSkip", "previewRun", "yamlOverride")


class _RefusedError(Exception):
    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class DevopsService:
    """The API of one organisation.

    Attributes:
        seen: Method and path of each call.
    """

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="devops")
        self.seen: list[tuple[str, str]] = []

    @property
    def collection(self) -> str:
        """``System.CollectionUri``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/organisation/"

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, address: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and content of an answer."""
        url = urlsplit(address)
        self.seen.append((method, url.path))
        query = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        try:
            self._signed_in(headers)
            if query.get("api-version", "").partition("-")[0] != _VERSION:
                raise _RefusedError(400, "VssVersionNotSpecifiedException", f"The requested version is not {_VERSION}.")
            base = f"/organisation/{self._organisation.project}"
            if not url.path.startswith(f"{base}/"):
                raise _RefusedError(
                    404, "ProjectDoesNotExistWithNameException", f"TF200016: The project does not exist: {url.path}"
                )
            path = url.path.removeprefix(base)
            if method == "GET" and path == "/_apis/pipelines":
                return 200, self._pipelines()
            if method == "POST" and path.endswith("/oidctoken"):
                return 200, self._federated(query)
            runs = RUNS.match(path)
            if method == "POST" and runs:
                return 200, self._start(int(runs[1]), body)
            raise _RefusedError(404, "HttpNotFound", f"{method} {path} is not known")
        except _RefusedError as refusal:
            return refusal.status, {"message": str(refusal), "typeKey": refusal.kind, "errorCode": 0}

    def _signed_in(self, headers: Any) -> None:
        sent = headers.get("Authorization", "")
        if any(sent == f"Bearer {run.access_token}" for run in self._organisation.runs):
            return
        try:
            check(sent, (AUDIENCE,))
        except ServiceRefusalError as error:
            raise _RefusedError(
                401, "UnauthorizedRequestException", f"TF400813: not authorized: {error.message}"
            ) from error

    def _pipelines(self) -> dict[str, Any]:
        found = [
            {"id": one.id, "name": one.name, "folder": "\\", "revision": 1} for one in self._organisation.definitions
        ]
        return {"count": len(found), "value": found}

    def _federated(self, query: dict[str, str]) -> dict[str, str]:
        wanted = query.get("serviceconnectionid")
        connection = next((one for one in self._organisation.connections if one.id == wanted), None)
        if connection is None:
            raise _RefusedError(
                404, "ServiceEndpointNotFound", "The service connection does not exist or has not been authorized."
            )
        subject = f"sc://organisation/{self._organisation.project}/{connection.name}"
        return {"oidcToken": token(_EXCHANGE, 600, sub=subject)}

    def _start(self, number: int, body: bytes) -> dict[str, Any]:
        definition = next((one for one in self._organisation.definitions if one.id == number), None)
        if definition is None:
            raise _RefusedError(404, "PipelineNotFoundException", f"The pipeline {number} was not found.")
        try:
            content = json.loads(body or b"{}")
        except ValueError as error:
            raise _RefusedError(400, "VssPropertyValidationException", f"not JSON: {error}") from error
        unknown = sorted(set(content) - set(_BODY))
        if unknown:
            raise _RefusedError(400, "InvalidArgumentException", f"unexpected {', '.join(unknown)}")
        reference = (
            content.get("resources", {})
            .get("repositories", {})
            .get("self", {})
            .get("refName", self._organisation.branch)
        )
        if reference != self._organisation.branch:
            raise _RefusedError(400, "PipelineValidationException", f"Could not find valid branch {reference}")
        parameters = content.get("templateParameters", {})
        if not all(isinstance(value, str) for value in parameters.values()):
            raise _RefusedError(400, "InvalidArgumentException", "templateParameters are texts")
        try:
            run = self._organisation.queue(definition.name, reason="ResourceTrigger", **parameters)
        except PipelineError as error:
            raise _RefusedError(400, "PipelineValidationException", str(error)) from error
        project = f"{self.collection}{self._organisation.project}"
        return {
            "id": run.number, "name": run.predefined["Build.BuildNumber"], "state": "inProgress",
            "pipeline": {"id": definition.id, "name": definition.name, "folder": "\\"},
            "templateParameters": parameters,
            "_links": {"web": {"href": f"{project}/_build/results?buildId={run.number}"}},
            "url": f"{project}/_apis/pipelines/{number}/runs/{run.number}",
        }  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content = service.answer(self.command, self.path, self.headers, body)
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """The log of the test stays quiet."""

        return Handler
