"""What online and batch endpoints have in common: they and their deployments are created and deleted."""

from __future__ import annotations

import abc

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION, WORKSPACE
from azureml_emulator.resources.asset_references import check
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route


class EndpointRoutes(abc.ABC):
    """The calls about one kind of endpoint and its deployments."""

    kind: str
    modes: tuple[str, ...]

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def routes(self) -> list[Route]:
        """Return the paths."""
        before, base = self._subscription.require_workspace, f"{WORKSPACE}/{self.kind}"
        one = base + "/{endpoint}"
        return [
            route(base, before, GET=self._list),
            route(one, before, GET=self._get, PUT=self._put_endpoint, DELETE=self._delete_endpoint),
            route(one + "/listKeys", before, POST=self._keys),
            route(one + "/deployments", before, GET=self._list_deployments),
            route(
                one + "/deployments/{deployment}",
                before,
                GET=self._get,
                PUT=self._put_deployment,
                DELETE=self._delete_deployment,
            ),
            *self.further_routes(one),
        ]

    @abc.abstractmethod
    def further_routes(self, base: str) -> list[Route]:
        """Return the paths that only this kind has; ``base`` is that of an endpoint."""

    @abc.abstractmethod
    def complete_endpoint(self, made: RestResource, kept: Json) -> None:
        """Check an endpoint and add what the service adds; ``kept`` contains its earlier properties, if any.

        Raises:
            ServiceRefusalError: It is not valid.
        """

    @abc.abstractmethod
    def complete_deployment(self, made: RestResource) -> None:
        """Check a deployment and add what the service adds.

        Raises:
            ServiceRefusalError: It is not valid.
        """

    @abc.abstractmethod
    def check_delete(self, deployment: RestResource, endpoint: RestResource) -> None:
        """Refuse to delete a deployment that is in use.

        Raises:
            ServiceRefusalError: It is in use.
        """

    @abc.abstractmethod
    def bring_up(self, deployment: RestResource) -> None:
        """Start what a deployment runs, when it is created.

        Raises:
            ServiceRefusalError: It does not start; the operation fails, and the deployment stays as ``Failed``.
        """

    @abc.abstractmethod
    def take_down(self, path: str) -> None:
        """End what the deployments at or below a path run, when they are deleted."""

    def keys(self, endpoint: RestResource) -> Json:
        """Return the keys of an endpoint."""
        raise malformed(f"the endpoint {endpoint.name!r} has no keys")

    def deployments(self, endpoint: RestResource) -> list[RestResource]:
        """Return deployments of an endpoint, oldest first."""
        return self._subscription.store.children(f"{endpoint.id}/deployments")

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self._subscription.store.children(call.path), call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._find(call.path).to_dict())

    def _find(self, path: str) -> RestResource:
        what = "deployment" if path.split("/")[-2] == "deployments" else "endpoint"
        return self._subscription.store.get(path, f"{what} {path.rsplit('/', 1)[-1]!r}")

    def _list_deployments(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self.deployments(self._find(call.path.rsplit("/", 1)[0])), call))

    def _keys(self, call: RestCall) -> Response:
        return reply(self.keys(self._find(call.path.rsplit("/", 1)[0])))

    def _put_endpoint(self, call: RestCall) -> Response:
        words = {word.lower(): word for word in self.modes}  # the SDK writes aadToken in one place, AADToken in another
        auth = words.get(str(call.properties.get("authMode")).lower())
        if auth is None:
            raise malformed(f"authMode {call.properties.get('authMode')!r} is not one of {', '.join(self.modes)}")
        check(self._subscription, call.properties)
        kept = self._subscription.store.find(call.path)
        before = dict(kept.properties) if kept else {}
        if before and before["authMode"] != auth:
            raise malformed("the authMode of an endpoint cannot be changed")
        call.properties["authMode"] = auth
        return self._make(call, before)

    def _put_deployment(self, call: RestCall) -> Response:
        self._find(call.path.split("/deployments/")[0])
        check(self._subscription, call.properties)
        return self._make(call, None)

    def _make(self, call: RestCall, before: Json | None) -> Response:
        """Create an endpoint, or a deployment if ``before`` is None, as a long-running operation."""

        self._check_idle(call.path)
        draft = RestResource(call.path, {**call.body, "properties": dict(call.properties)}, 0)
        draft.body.setdefault("location", LOCATION)
        draft.properties.setdefault("properties", {})
        if before is None:
            self.complete_deployment(draft)
        else:
            self.complete_endpoint(draft, before)
        made, new = self._subscription.store.put(call.path, draft.body)
        made.properties["provisioningState"] = "Creating" if new else "Updating"

        def finish() -> Json:
            if before is None:
                try:
                    self.bring_up(made)
                except ServiceRefusalError:
                    made.properties["provisioningState"] = "Failed"
                    raise
            made.properties["provisioningState"] = "Succeeded"
            return made.to_dict()

        return self._subscription.operations.start(finish, made.to_dict(), 201 if new else 200)

    def _delete_endpoint(self, call: RestCall) -> Response:
        return self._delete(call.path)

    def _delete_deployment(self, call: RestCall) -> Response:
        found = self._subscription.store.find(call.path)
        if found is not None:
            self.check_delete(found, self._find(call.path.split("/deployments/")[0]))
        return self._delete(call.path)

    def _delete(self, path: str) -> Response:
        if self._subscription.store.find(path) is None:
            return reply(None, 204)
        self._check_idle(path)
        self._subscription.store.get(path).properties["provisioningState"] = "Deleting"

        def finish() -> None:
            self.take_down(path)
            self._subscription.store.delete(path)

        return self._subscription.operations.start(finish)

    def _check_idle(self, path: str) -> None:
        """Refuse to change an endpoint or deployment that is being changed."""
        found = self._subscription.store.find(path)
        state = found.properties.get("provisioningState") if found is not None else ""
        if found is not None and state in ("Creating", "Updating", "Deleting"):
            message = f"Another operation is in progress: {found.name!r} is {state}. Wait until it has ended"
            raise ServiceRefusalError(409, "Conflict", message)
