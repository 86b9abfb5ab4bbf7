"""The sign-in of Container Registries: a token of Microsoft Entra ID is exchanged for a token of the registry.

Images are not kept. Its hosts are ``NAME.azurecr.io``. A registry refuses callers without a role on it or above it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.rest.rest_calls import ServiceRefusalError

Check = Callable[[str], Mapping[str, Any]]
"""Returns the claims of a header ``Authorization``. Raises ServiceRefusalError."""
MayPull = Callable[[str], bool]
"""Returns whether the principal with an object id may pull."""


def registry_sign_in(check: Check, may_pull: MayPull, names: Callable[[], Collection[str]]) -> Starlette:
    """Return the application that responds for the hosts of registries.

    Args:
        check: Checks tokens.
        may_pull: Knows the roles.
        names: Returns the names of the existing registries.
    """

    async def exchange(request: Request) -> Response:
        host = request.headers.get("host", "").partition(":")[0].lower()
        if host.endswith(".azurecr.io") and host.partition(".")[0] not in names():
            return _refused(404, "NAME_UNKNOWN", f"the registry {host} does not exist")
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "access_token" or not form.get("service"):
            return _refused(400, "UNSUPPORTED", "grant_type must be access_token, and service the host of the registry")
        try:
            claims = check(f"Bearer {form.get('access_token', '')}")
        except ServiceRefusalError as refusal:
            return _refused(401, "UNAUTHORIZED", refusal.message)
        if not may_pull(str(claims.get("oid") or "")):
            return _refused(403, "DENIED", "the principal has no permission on the registry: AcrPull is needed")
        return JSONResponse({"refresh_token": token(form["service"], oid=claims.get("oid"))})

    async def challenge(request: Request) -> Response:
        host = request.headers.get("host", "")
        answer = _refused(401, "UNAUTHORIZED", "authentication required")
        answer.headers["WWW-Authenticate"] = f'Bearer realm="https://{host}/oauth2/token",service="{host}"'
        return answer

    return Starlette(
        routes=[Route("/oauth2/exchange", exchange, methods=["POST"]), Route("/v2/", challenge, methods=["GET"])]
    )


def _refused(status: int, code: str, message: str) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status)
