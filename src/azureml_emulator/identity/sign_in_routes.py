"""The sign-in service: gives tokens to a service principal, by its secret or by a federated token of a pipeline.

The agent of a pipeline gives such a federated token to whoever shows the pipeline's own token: Azure DevOps does, and so
does this service, at a separate address.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import OWNER, TENANT, check, token
from azureml_emulator.rest.rest_calls import ServiceRefusalError

CLIENT = "33333333-3333-3333-3333-333333333333"
SERVICE_PRINCIPALS = {
    "Owner": CLIENT,
    "Contributor": "33333333-3333-3333-3333-333333333334",
    "AzureML Data Scientist": "33333333-3333-3333-3333-333333333335",
    "Reader": "33333333-3333-3333-3333-333333333336",
}
"""Client ids of the service principals that can sign in, by the role that each initially has."""
COMPUTE = "33333333-3333-3333-3333-333333333337"
"""Client id of the identity that all computes share, as which the steps of jobs are signed in."""
COMPUTE_ROLES = ("AzureML Data Scientist", "Storage Blob Data Contributor")
"""Roles that it initially has: those that the infrastructure of a project gives to its computes."""
SECRET = "the secret of the loopback service principal"
CONNECTION = "44444444-4444-4444-4444-444444444444"
PIPELINE_TOKEN = "the token of the loopback pipeline"
OIDC_PATH = "/pipelines/project/_apis/distributedtask/hubs/build/plans/plan/jobs/job/oidctoken"
# Services of Microsoft that are in every tenant, including those that are not emulated.
_SERVICES = frozenset({
    "https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com", "https://vault.azure.net",
    "https://storage.azure.com", "https://graph.microsoft.com", "https://graph.windows.net", "https://monitor.azure.com",
    "https://containerregistry.azure.net", "https://azurecr.io", "https://cognitiveservices.azure.com",
    "https://database.windows.net", "https://batch.core.windows.net", "https://api.loganalytics.io",
    "https://appservice.azure.com", "https://app.vssps.visualstudio.com", "499b84ac-1321-427f-aa17-267ca6975798",
    "https://ai.azure.com", "https://dev.azuresynapse.net", "https://datalake.azure.net",
})  # fmt: skip
_ACCOUNT = re.compile(r"https://[a-z0-9]{3,24}\.(blob|queue|table|file|dfs)\.core\.windows\.net")
_EXCHANGE = "api://AzureADTokenExchange"
_OIDC_VERSION = "7.1"


def object_id(client: str) -> str:
    """Return the object id of a service principal in role assignments, by its client id."""
    return OWNER if client == CLIENT else str(uuid.uuid5(uuid.NAMESPACE_URL, f"principal:{client}"))


def by_secret(role: str = "Owner") -> dict[str, str]:
    """Return variables that sign in the service principal of a role with its secret."""
    return _with_secret(SERVICE_PRINCIPALS[role])


def as_compute() -> dict[str, str]:
    """Return variables that sign in the identity of the computes."""
    return _with_secret(COMPUTE)


def _with_secret(client: str) -> dict[str, str]:
    return {"AZURE_CLIENT_ID": client, "AZURE_CLIENT_SECRET": SECRET, "AZURE_TENANT_ID": TENANT}


def by_federation(file: Path) -> dict[str, str]:
    """Return variables that sign it in without a secret, as a pipeline does; the token is written to a file."""
    file.write_text(token(_EXCHANGE))
    return {"AZURE_CLIENT_ID": CLIENT, "AZURE_FEDERATED_TOKEN_FILE": str(file), "AZURE_TENANT_ID": TENANT}


def by_pipeline(url: str) -> dict[str, str]:
    """Return variables of a step in a pipeline whose service connection signs in without a secret.

    Args:
        url: Address of the cloud.
    """
    return {
        "SYSTEM_OIDCREQUESTURI": f"{url}{OIDC_PATH}",
        "SYSTEM_ACCESSTOKEN": PIPELINE_TOKEN,
        "AZURESUBSCRIPTION_TENANT_ID": TENANT,
        "AZURESUBSCRIPTION_CLIENT_ID": CLIENT,
        "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": CONNECTION,
    }


class SignInRoutes:
    """The calls of the sign-in libraries.

    Args:
        base_url: Its address.
        own: Audiences of tokens for the services of this cloud, besides those of the public cloud.

    Attributes:
        seconds: How long the tokens that it gives are valid.
    """

    def __init__(self, base_url: Callable[[], str], own: Callable[[], tuple[str, ...]] = lambda: ()) -> None:
        self._base_url = base_url
        self._own = own
        self.seconds = 3600

    def routes(self) -> list[Route]:
        """Return the paths."""
        base = f"/{TENANT}"
        return [
            Route(base + "/v2.0/.well-known/openid-configuration", self._configuration, methods=["GET"]),
            Route(base + "/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/common/discovery/instance", self._instance, methods=["GET"]),
            Route(OIDC_PATH, self._federated_token, methods=["POST"]),
        ]

    async def _instance(self, request: Request) -> Response:
        """Return the hosts of the sign-in; libraries request this before they trust a host."""
        host = self._base_url().removeprefix("https://")
        endpoint = f"{self._base_url()}/{TENANT}/v2.0/.well-known/openid-configuration"
        alias = {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
        return JSONResponse({"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": [alias]})

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
        if form.get("client_id") not in (*SERVICE_PRINCIPALS.values(), COMPUTE):
            return _no(
                "unauthorized_client", f"AADSTS700016: the application {form.get('client_id')!r} was not found", 400
            )
        if "client_assertion" in form:
            try:
                check(f"Bearer {form['client_assertion']}", (_EXCHANGE,))
            except ServiceRefusalError as error:
                return _no("invalid_client", f"AADSTS700024: {error.message}", 401)
        elif form.get("client_secret") != SECRET:
            return _no("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        audience = form.get("scope", "").removesuffix("/.default")
        if not self._is_known(audience):
            message = (
                f"AADSTS500011: The resource principal named {audience} was not found in the tenant named Emulator. It is"
                " not one of the services known here."
            )
            return _no("invalid_resource", message, 400)
        client = form["client_id"]
        access = token(audience, self.seconds, appid=client, oid=object_id(client))
        return JSONResponse({"token_type": "Bearer", "expires_in": self.seconds, "access_token": access})

    def _is_known(self, audience: str) -> bool:
        """Return whether tokens are given for a service."""
        bare = audience.rstrip("/").lower()
        return bare in _SERVICES or bare in self._own() or _ACCOUNT.fullmatch(bare) is not None

    async def _federated_token(self, request: Request) -> Response:
        """Respond as the agent of a pipeline; it redirects to a page for people unless it is told that nobody looks."""
        if request.headers.get("authorization") != f"Bearer {PIPELINE_TOKEN}":
            if request.headers.get("x-tfs-fedauthredirect") != "Suppress":
                return RedirectResponse(f"{self._base_url()}/signin", 302)
            return JSONResponse({"message": "TF400813: The user is not authorized to access this resource."}, 401)
        if request.query_params.get("api-version") != _OIDC_VERSION:
            return JSONResponse({"message": f"The requested version is not {_OIDC_VERSION}."}, 400)
        if request.query_params.get("serviceConnectionId") != CONNECTION:
            return JSONResponse({"message": "The service connection does not exist or has not been authorized."}, 404)
        return JSONResponse({"oidcToken": token(_EXCHANGE, 600)})


def _no(error: str, description: str, status: int) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)
