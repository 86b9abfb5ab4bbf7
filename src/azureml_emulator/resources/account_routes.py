"""What is above the resources: tenant, subscription and resource group, which clients look up when they sign in."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, reply, route

_ONE = "/subscriptions/{subscription}"
_DOMAIN = "emulator.onmicrosoft.com"


class AccountRoutes:
    """The calls about tenant, subscription and resource group, of which there is one each."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            route("/tenants", GET=self._tenants),
            route("/subscriptions", GET=lambda call: reply({"value": [self._described()]})),
            route(_ONE, self._require, GET=lambda call: reply(self._described())),
            route(_ONE + "/resourceGroups", self._require, GET=lambda call: reply({"value": [self._group()]})),
            route(_ONE + "/resourceGroups/{group}", self._require, GET=self._get_group),
        ]

    def _require(self, call: RestCall) -> None:
        if call.names["subscription"].lower() != self._subscription.subscription:
            message = f"The subscription '{call.names['subscription']}' could not be found."
            raise ServiceRefusalError(404, "SubscriptionNotFound", message)

    def _tenants(self, call: RestCall) -> Response:
        tenant = self._subscription.tenant
        found: Json = {
            "id": f"/tenants/{tenant}",
            "tenantId": tenant,
            "tenantCategory": "Home",
            "tenantType": "AAD",
            "countryCode": "NL",
            "displayName": "Emulator",
            "defaultDomain": _DOMAIN,
            "domains": [_DOMAIN],
        }
        return reply({"value": [found]})

    def _described(self) -> Json:
        name = self._subscription.subscription
        return {
            "id": f"/subscriptions/{name}",
            "subscriptionId": name,
            "tenantId": self._subscription.tenant,
            "displayName": "Emulator",
            "state": self._subscription.limits.subscription_state,
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
        }

    def _get_group(self, call: RestCall) -> Response:
        if call.names["group"].lower() != self._subscription.group.lower():
            message = f"Resource group '{call.names['group']}' could not be found."
            raise ServiceRefusalError(404, "ResourceGroupNotFound", message)
        return reply(self._group())

    def _group(self) -> Json:
        subscription = self._subscription
        return {
            "id": f"/subscriptions/{subscription.subscription}/resourceGroups/{subscription.group}",
            "name": subscription.group,
            "type": "Microsoft.Resources/resourceGroups",
            "location": LOCATION,
            "properties": {"provisioningState": "Succeeded"},
        }
