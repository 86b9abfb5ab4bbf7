"""Online endpoints, managed and on Kubernetes: traffic, keys, logs, scoring."""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import Callable
from contextlib import nullcontext

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.endpoints.deployment_containers import DeploymentContainers
from azureml_emulator.endpoints.endpoint_routes import EndpointRoutes
from azureml_emulator.endpoints.endpoint_traffic import EndpointTraffic
from azureml_emulator.endpoints.managed_limits import (
    RequestsUnderWay,
    check_body,
    check_deployment,
    check_name,
    late,
    timeout_of,
)
from azureml_emulator.endpoints.script_scoring import DeploymentScorer
from azureml_emulator.identity.loopback_tokens import check, token
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import (
    Json,
    RestCall,
    ServiceRefusalError,
    malformed,
    missing,
    parse,
    reply,
    route,
)

_DEPLOYMENT_ID = re.compile(r".+/onlineEndpoints/[^/]+/deployments/[^/]+", re.IGNORECASE)
_DEPLOYMENT_HEADER = "azureml-model-deployment"
_SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
_TOKEN_SECONDS = 3600


class OnlineEndpointRoutes(EndpointRoutes):
    """The calls about online endpoints.

    Args:
        subscription: Keeps them.
        containers: Containers of the deployments that have no scoring script.
        scorer: Scores for the deployments that have one.
    """

    kind = "onlineEndpoints"
    modes = ("Key", "AMLToken", "AADToken")

    def __init__(
        self, subscription: Subscription, containers: DeploymentContainers, scorer: Callable[[], DeploymentScorer]
    ) -> None:
        super().__init__(subscription)
        self._containers = containers
        self._scorer = scorer
        self._under_way = RequestsUnderWay()
        self.counts = EndpointTraffic(subscription)

    def further_routes(self, base: str) -> list[Route]:
        """Return the paths for keys, tokens and logs."""
        before = self._subscription.require_workspace
        return [
            route(base + "/regenerateKeys", before, POST=self._regenerate),
            route(base + "/token", before, POST=self._token),
            route(base + "/deployments/{deployment}/getLogs", before, POST=self._logs),
            route("/scoring/{workspace}/{endpoint}/score", parsed=False, POST=self._score),
            *self.counts.routes(),
        ]

    def restore(self) -> None:
        """Start again what ran in an earlier process."""
        found = self._subscription.store.below("/subscriptions")
        deployments = [item for item in found if _DEPLOYMENT_ID.fullmatch(item.id)]
        self._containers.restore(
            item
            for item in deployments
            if not item.properties.get("codeConfiguration") and item.properties.get("provisioningState") == "Succeeded"
        )

    def complete_endpoint(self, made: RestResource, kept: Json) -> None:
        """Check that the name is free, and that traffic goes to deployments that exist and adds up."""
        if not kept:
            check_name("endpoint", made.name)
            self._subscription.limits.check_name(made.name)
        traffic: dict[str, int] = made.properties.get("traffic") or {}
        known = {item.name for item in self.deployments(made)}
        for field in ("traffic", "mirrorTraffic"):
            for name in made.properties.get(field) or {}:
                if name not in known:
                    raise malformed(f"{field} goes to the deployment {name!r}, which does not exist")
        mirror: dict[str, int] = made.properties.get("mirrorTraffic") or {}
        if len(mirror) > 1 or any(share > 50 for share in mirror.values()):
            raise malformed("mirrorTraffic goes to one deployment, and is at most 50 percent")
        if mirror and made.properties.get("compute"):
            raise malformed("mirrorTraffic is not supported for Kubernetes online endpoints")
        if traffic and sum(traffic.values()) not in (0, 100):
            raise malformed(f"the traffic adds up to {sum(traffic.values())} percent, not to 100")
        workspace = made.id.split("/workspaces/")[1].split("/")[0]
        made.properties["traffic"] = traffic
        made.properties.setdefault("mirrorTraffic", {})
        base = self._subscription.addresses.online(workspace, made.name)
        made.properties["scoringUri"] = f"{base}/score"
        made.properties["swaggerUri"] = f"{base}/swagger.json"
        made.body.setdefault("kind", "Managed")

    def complete_deployment(self, made: RestResource) -> None:
        """Check that a managed deployment names its machine, and that there is quota for it."""
        kind = made.properties.get("endpointComputeType")
        if kind not in ("Managed", "Kubernetes"):
            raise malformed(f"endpointComputeType {kind!r} is neither Managed nor Kubernetes")
        if self._subscription.store.find(made.id) is None:
            check_name("deployment", made.name)
        if kind == "Managed" and not made.properties.get("instanceType"):
            raise malformed("a managed deployment needs an instanceType")
        if kind == "Managed":
            beside = self.deployments(self._find(made.id.split("/deployments/")[0]))
            check_deployment(made, [item for item in beside if item.id.lower() != made.id.lower()])
            endpoints = self._subscription.store.children(made.id.split("/deployments/")[0].rpartition("/")[0])
            others = [
                item
                for endpoint in endpoints
                for item in self.deployments(endpoint)
                if item.id.lower() != made.id.lower()
            ]
            self._subscription.limits.check_machines(
                made, [item for item in others if item.properties.get("instanceType")]
            )
        made.properties.setdefault("scaleSettings", {"scaleType": "Default"})

    def check_delete(self, deployment: RestResource, endpoint: RestResource) -> None:
        """Refuse to delete a deployment with traffic."""
        if endpoint.properties["traffic"].get(deployment.name):
            raise malformed(f"the deployment {deployment.name!r} has traffic; set it to 0 first")

    def bring_up(self, deployment: RestResource) -> None:
        """Start the container of a deployment; a scoring script starts with each request."""
        if not deployment.properties.get("codeConfiguration"):
            self._containers.start(deployment)

    def take_down(self, path: str) -> None:
        """End the containers at or below a path."""
        self._containers.stop(path)

    def keys(self, endpoint: RestResource) -> Json:
        """Return the two keys, which are created when they are first requested."""
        if endpoint.properties["authMode"] != "Key":
            return super().keys(endpoint)
        fresh = {"primaryKey": secrets.token_urlsafe(24), "secondaryKey": secrets.token_urlsafe(24)}
        # The number distinguishes endpoints of the same name that were created one after another.
        return self._subscription.store.keep(f"/emulator/keys/{endpoint.number}", {"properties": fresh}).properties

    def _regenerate(self, call: RestCall) -> Response:
        endpoint = self._find(call.path.rsplit("/", 1)[0])
        self.keys(endpoint)  # refuses if there are none
        which = str(call.body.get("keyType", "")).lower()
        if which not in ("primary", "secondary"):
            raise malformed(f"keyType {call.body.get('keyType')!r} is neither Primary nor Secondary")

        def finish() -> None:
            # The SDK also sends the current value, so what it sends cannot be the new one.
            self.keys(endpoint)[f"{which}Key"] = secrets.token_urlsafe(24)

        return self._subscription.operations.start(finish)

    def _token(self, call: RestCall) -> Response:
        endpoint = self._find(call.path.rsplit("/", 1)[0])
        expiry = int(time.time()) + _TOKEN_SECONDS
        times = {"expiryTimeUtc": expiry, "refreshAfterTimeUtc": expiry - _TOKEN_SECONDS // 2}
        return reply({"accessToken": token(endpoint.id, _TOKEN_SECONDS), "tokenType": "Bearer", **times})

    def _logs(self, call: RestCall) -> Response:
        deployment = self._find(call.path.rsplit("/", 1)[0])
        if deployment.properties.get("codeConfiguration"):
            text = self._scorer().log(deployment)
        else:
            text = self._containers.log(deployment, str(call.body.get("containerType") or ""))
        lines = text.splitlines()
        return reply({"content": "\n".join(lines[-int(call.body.get("tail") or 100) :])})

    def _score(self, call: RestCall) -> Response:
        """Return the response of the deployment's container or script; the mirrored deployment gets a copy."""
        workspace = self._subscription.path(call.names["workspace"])
        endpoint = self._find(f"{workspace}/{self.kind}/{call.names['endpoint']}")
        managed = not endpoint.properties.get("compute")
        if managed:
            check_body(call.content)
        self._authorise(endpoint, call.headers.get("authorization", ""))
        self.counts.note(endpoint.id)
        wanted = call.headers.get(_DEPLOYMENT_HEADER, "")
        deployment = self._choose(endpoint, wanted)
        with self._under_way.one_more(deployment) if managed else nullcontext():
            if deployment.properties.get("codeConfiguration"):
                answer = self._scorer().score(deployment, parse(call.content))
                return reply(answer, headers={_DEPLOYMENT_HEADER: deployment.name})
            response = self._ask_container(deployment, call)
        for name, share in ({} if wanted else endpoint.properties["mirrorTraffic"]).items():
            if random.random() * 100 < share:
                self._ask_container(self._find(f"{endpoint.id}/deployments/{name}"), call)  # nobody gets this response
        return response

    def _ask_container(self, deployment: RestResource, call: RestCall) -> Response:
        container = self._containers.find(deployment)
        headers = {_DEPLOYMENT_HEADER: deployment.name}
        if container is None:
            raise ServiceRefusalError(503, "ServiceUnavailable", f"{deployment.name!r} is not running", headers)
        query = "&".join(f"{key}={value}" for key, value in call.query.items())
        try:
            found = container.ask(
                "scoringRoute",
                "POST",
                query,
                call.content,
                call.headers.get("content-type", ""),
                timeout_of(deployment),
            )
        except TimeoutError as error:
            raise late(deployment) from error
        except OSError as error:
            raise ServiceRefusalError(503, "ServiceUnavailable", f"{deployment.name!r}: {error}", headers) from error
        status = found.status
        if status != 200:  # the service replaces the status of the container with its own
            headers["ms-azureml-model-error-statuscode"], status = str(status), 424
        return Response(found.content, status, headers, found.kind)

    def _authorise(self, endpoint: RestResource, authorization: str) -> None:

        if endpoint.properties["authMode"] == "Key":
            if authorization.removeprefix("Bearer ") not in self.keys(endpoint).values():
                raise ServiceRefusalError(401, "AuthenticationFailed", "the key of the endpoint is missing or wrong")
        elif endpoint.properties["authMode"] == "AMLToken":
            check(authorization, (endpoint.id,))
        else:
            resource = self._subscription.addresses.ml_resource
            claims = check(
                authorization, ("https://ml.azure.com", resource)
            )  # the SDK requests the first one in every cloud
            self._subscription.roles.require(claims, _SCORE, endpoint.id)

    def _choose(self, endpoint: RestResource, wanted: str) -> RestResource:
        if wanted:
            return self._find(f"{endpoint.id}/deployments/{wanted}")
        traffic = {name: share for name, share in endpoint.properties["traffic"].items() if share}
        if not traffic:
            raise missing(f"a deployment of {endpoint.name!r} with traffic")
        name = random.choices(list(traffic), list(traffic.values()))[0]
        return self._find(f"{endpoint.id}/deployments/{name}")
