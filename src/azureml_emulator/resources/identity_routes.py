"""User-assigned managed identities, and the outside identities that may act as them.

They are kept and checked as in the service, but nobody signs in with them here.
"""

from __future__ import annotations

import re

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.identity.loopback_tokens import TENANT
from azureml_emulator.resources.resource_description import principal_of
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

_GROUP = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}")
_FEDERATION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
MOST_FEDERATIONS = 20


class IdentityRoutes:
    """The calls about managed identities."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._store = subscription.store

    def routes(self) -> list[Route]:
        """Return the paths."""
        one = _GROUP + "/userAssignedIdentities/{identity}"
        federations = one + "/federatedIdentityCredentials"
        return [
            route(_GROUP + "/userAssignedIdentities", GET=self._list),
            route(one, GET=self._get, PUT=self._put, DELETE=self._delete),
            route(federations, self._require, GET=self._list),
            route(
                federations + "/{name}",
                self._require,
                GET=self._get_federation,
                PUT=self._put_federation,
                DELETE=self._delete,
            ),
        ]

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self._store.children(call.path), call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._identity(call.path).to_dict())

    def _put(self, call: RestCall) -> Response:
        if not call.body.get("location"):
            raise ServiceRefusalError(400, "LocationRequired", "The location property is required for this definition.")
        if not _NAME.fullmatch(call.names["identity"]):
            raise malformed(f"the identity name {call.names['identity']!r} must have 3 to 128 letters, digits, - and _")
        properties = {
            "tenantId": TENANT, "principalId": principal_of(call.path), "clientId": principal_of(call.path, "client"),
        }  # fmt: skip
        body = {"location": call.body["location"], "tags": call.body.get("tags") or {}, "properties": properties}
        made, new = self._store.put(call.path, body)
        return reply(made.to_dict(), 201 if new else 200)

    def _delete(self, call: RestCall) -> Response:
        return reply(None, 200 if self._store.delete(call.path) else 204)

    def _require(self, call: RestCall) -> None:
        self._identity(call.path.partition("/federatedIdentityCredentials")[0])

    def _identity(self, path: str) -> RestResource:
        found = self._store.find(path)
        if found is None:
            what = path.partition("/providers/")[2]
            raise ServiceRefusalError(404, "ResourceNotFound", f"The resource {what!r} was not found.")
        return found

    def _get_federation(self, call: RestCall) -> Response:
        found = self._store.find(call.path)
        if found is None:
            message = f"The federated identity credential {call.names['name']!r} was not found."
            raise ServiceRefusalError(404, "NotFound", message)
        return reply(found.to_dict())

    def _put_federation(self, call: RestCall) -> Response:
        wanted = _checked(call.names["name"], call.properties)
        siblings = [
            item for item in self._store.children(call.path.rpartition("/")[0]) if item.id.lower() != call.path.lower()
        ]
        if len(siblings) >= MOST_FEDERATIONS:
            raise malformed(f"an identity has at most {MOST_FEDERATIONS} federated identity credentials")
        for item in siblings:
            if (item.properties["issuer"], item.properties["subject"]) == (wanted["issuer"], wanted["subject"]):
                message = "Issuer and subject combination already exists for this Managed Identity."
                raise ServiceRefusalError(409, "Conflict", message)
        made, new = self._store.put(call.path, {"properties": wanted})
        return reply(made.to_dict(), 201 if new else 200)


def _checked(name: str, properties: Json) -> Json:
    """Return issuer, subject and audiences; raise ServiceRefusalError if the service does not accept them."""
    if not _FEDERATION_NAME.fullmatch(name):
        raise malformed(
            f"the name {name!r} of a federated identity credential must have 3 to 120 letters, digits, - and _"
        )
    issuer, subject = str(properties.get("issuer") or ""), str(properties.get("subject") or "")
    if not issuer.startswith("https://"):
        raise malformed(f"the issuer {issuer!r} of a federated identity credential must be an https address")
    if not subject or len(subject) > 600:
        raise malformed("the subject of a federated identity credential must have 1 to 600 characters")
    audiences = properties.get("audiences")
    if not isinstance(audiences, list) or len(audiences) != 1:
        raise malformed("a federated identity credential must have exactly one audience")
    return {"issuer": issuer, "subject": subject, "audiences": audiences}
