"""The sign-in service: gives tokens to a service principal, by its secret or by a federated token of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import TENANT, check, token
from azureml_emulator.rest.rest_calls import ServiceRefusalError

CLIENT = "33333333-3333-3333-3333-333333333333"
SECRET = "the secret of the loopback service principal"
_EXCHANGE = "api://AzureADTokenExchange"


def by_secret() -> dict[str, str]:
    """Variables that sign the service principal in with its secret."""
    return {"AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": SECRET, "AZURE_TENANT_ID": TENANT}


def by_federation(file: Path) -> dict[str, str]:
    """Variables that sign it in without a secret, as a pipeline does; the token is written to a file."""
    file.write_text(token(_EXCHANGE))
    return {"AZURE_CLIENT_ID": CLIENT, "AZURE_FEDERATED_TOKEN_FILE": str(file), "AZURE_TENANT_ID": TENANT}


class SignInRoutes:
    """The calls of the sign-in libraries."""

    def __init__(self, base_url: Callable[[], str]) -> None:
        self._base_url = base_url

    def routes(self) -> list[Route]:
        """Their paths."""
        base = f"/{TENANT}"
        return [
            Route(base + "/v2.0/.well-known/openid-configuration", self._configuration, methods=["GET"]),
            Route(base + "/oauth2/v2.0/token", self._token, methods=["POST"]),
        ]

    async def _configuration(self, request: Request) -> Response:
        base = f"{self._base_url()}/{TENANT}"
        return JSONResponse(
            {
                "issuer": f"{base}/v2.0",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            }
        )

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return _no("unsupported_grant_type", f"AADSTS70003: {form.get('grant_type')!r} is not supported", 400)
        if form.get("client_id") != CLIENT:
            return _no("unauthorized_client", f"AADSTS700016: there is no application {form.get('client_id')!r}", 400)
        if "client_assertion" in form:
            try:
                check(f"Bearer {form['client_assertion']}", (_EXCHANGE,))
            except ServiceRefusalError as error:
                return _no("invalid_client", f"AADSTS700024: {error.message}", 401)
        elif form.get("client_secret") != SECRET:
            return _no("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        audience = form.get("scope", "").removesuffix("/.default")
        return JSONResponse({"token_type": "Bearer", "expires_in": 3600, "access_token": token(audience)})


def _no(error: str, description: str, status: int) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)
