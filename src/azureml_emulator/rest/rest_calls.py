"""One request to the control plane, its response, and the refusal in the form that the SDK understands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Json = dict[str, Any]


class ServiceRefusalError(Exception):
    """The control plane refuses a call.

    Args:
        status: HTTP status.
        code: Word for programs, such as ``NotFound``.
        message: Text for people.
        headers: Additional headers of the response.
        target: Subject, such as the name of a field.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, target: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.target = target

    def response(self) -> Response:
        """Return the refusal as a response in the form of Azure Resource Manager."""
        return JSONResponse({"error": self.body()}, self.status, headers=self.headers)

    def body(self) -> Json:
        """Return the description of the error, as in a failed operation."""
        return {"code": self.code, "message": self.message, "target": self.target or None, "details": []}


def missing(what: str) -> ServiceRefusalError:
    """Return the refusal for something that does not exist."""
    return ServiceRefusalError(404, "NotFound", f"{what} was not found")


def malformed(message: str) -> ServiceRefusalError:
    """Return the refusal for a body that cannot be used."""
    return ServiceRefusalError(400, "UserError", message)


@dataclass(frozen=True)
class RestCall:
    """A request with a parsed path."""

    method: str
    path: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Json
    content: bytes = b""
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def properties(self) -> Json:
        """Return the body's ``properties``.

        Raises:
            ServiceRefusalError: It has none, so the body is malformed.
        """
        found = self.body.get("properties")
        if not isinstance(found, dict):
            raise malformed("the request body has no properties")
        return found


Handler = Callable[[RestCall], Response]


def reply(body: object = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response; without a body it is empty."""
    if body is None:
        return Response(status_code=status, headers=dict(headers or {}))
    return JSONResponse(body, status, headers=dict(headers or {}))


def route(
    path: str, before: Callable[[RestCall], None] | None = None, *, parsed: bool = True, **handlers: Handler
) -> Route:
    """Return a path and the handler of each method; ``before`` may refuse the call first.

    Calls that are not ``parsed`` have anything in their ``content``, and no ``body``.

    Handlers run in threads, because they read and write blobs.
    """

    async def endpoint(request: Request) -> Response:
        try:
            content = await request.body()
            call = RestCall(
                method=request.method,
                path=request.scope["path"],
                names={name: str(value) for name, value in request.path_params.items()},
                query=dict(request.query_params),
                headers=dict(request.headers),
                body=parse(content) if parsed else {},
                content=content,
                claims=request.scope.get("state", {}).get("claims", {}),
            )
            if before is not None:
                before(call)
            return await run_in_threadpool(handlers[request.method], call)
        except ServiceRefusalError as refusal:
            return refusal.response()

    return Route(path, endpoint, methods=list(handlers), include_in_schema=False)


def parse(raw: bytes) -> Json:
    """Return the JSON object in a request. Raises ServiceRefusalError."""
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ServiceRefusalError(400, "InvalidRequestContent", f"the request body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ServiceRefusalError(400, "InvalidRequestContent", "the request body is not an object")
    return body
