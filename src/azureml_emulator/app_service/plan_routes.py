"""App Service plans: the machines that web apps share, and what each tier offers."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from azureml_emulator.app_service.site_defaults import with_plan_defaults
from azureml_emulator.app_service.web_refusals import WebRefusalError, conflict, not_found
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, reply, route

PROVIDER = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web"
_TIERS = {"F": "Free", "D": "Shared", "B": "Basic", "S": "Standard", "P": "Premium", "I": "Isolated"}
_SLOTS = {"Free": 0, "Shared": 0, "Basic": 0, "Standard": 5, "Premium": 20, "Isolated": 20}
_SKUS = {"F1", "D1", "B1", "B2", "B3", "S1", "S2", "S3"}
_SKUS |= {f"P{size}{kind}" for size in range(4) for kind in ("v2", "v3", "v4")} | {f"I{size}v2" for size in range(1, 4)}


def tier(plan: RestResource) -> str:
    """Return the tier of a plan, such as ``Standard``."""
    return _TIERS[str(plan.body["sku"]["name"])[0].upper()]


def slots_of(plan: RestResource) -> int:
    """Return how many slots its web apps may have besides production."""
    return _SLOTS[tier(plan)]


class PlanRoutes:
    """The calls about plans.

    Tests set :attr:`quota`, the number of machines that the subscription may have in the region.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.clear()

    def clear(self) -> None:
        """Start over; the plans themselves are forgotten with all other resources."""
        self.quota = 10

    def routes(self) -> list[BaseRoute]:
        """Return the paths."""
        return [
            route(PROVIDER + "/serverfarms", GET=self._list),
            route(PROVIDER + "/serverfarms/{name}", GET=self._get, PUT=self._put, DELETE=self._delete),
        ]

    def find(self, path: str) -> RestResource | None:
        """Return a plan by its id."""
        return self._subscription.store.find(path)

    def sites_of(self, plan: RestResource) -> int:
        """Return how many web apps and slots a plan has."""
        return int(plan.properties.get("numberOfSites") or 0)

    def _list(self, call: RestCall) -> Response:
        found = self._subscription.store.children(call.path)
        return reply(self._subscription.page_of([with_plan_defaults(item.to_dict()) for item in found], call))

    def _get(self, call: RestCall) -> Response:
        return reply(with_plan_defaults(self._existing(call).to_dict()))

    def _existing(self, call: RestCall) -> RestResource:
        found = self.find(call.path)
        if found is None:
            raise not_found("serverfarms", call.names["name"], call.names["group"])
        return found

    def _put(self, call: RestCall) -> Response:
        sku = call.body.get("sku") or {}
        if str(sku.get("name")) not in _SKUS or not call.body.get("location"):
            raise WebRefusalError(400, "BadRequest", f"Cannot find SkuDescription with name {sku.get('name')}.")
        kept = self.find(call.path)
        used = len(self._subscription.store.children(call.path.rsplit("/", 1)[0]))
        if kept is None and used >= self.quota:
            kind = _TIERS[str(sku["name"])[0]]
            message = (
                "Operation cannot be completed without additional quota. \r\nAdditional details - Location:  \r\n"
                f"Current Limit ({kind} VMs): {self.quota} \r\nCurrent Usage: {used}\r\n"
                f"Amount required for this deployment ({kind} VMs): 1 \r\n"
                f"(Minimum) New Limit that you should request to enable this deployment: {used + 1}. "
            )
            raise WebRefusalError(401, "Unauthorized", message)
        sites = self.sites_of(kept) if kept is not None else 0
        made, _ = self._subscription.store.put(call.path, call.body)
        made.body["sku"] = {**sku, "tier": tier(made), "capacity": sku.get("capacity") or 1}
        made.properties.update(provisioningState="InProgress", status="Ready", numberOfSites=sites)

        def finish() -> Json:
            made.properties["provisioningState"] = "Succeeded"
            return with_plan_defaults(made.to_dict())

        return self._subscription.operations.start(finish, with_plan_defaults(made.to_dict()), 202)

    def _delete(self, call: RestCall) -> Response:
        found = self.find(call.path)
        if found is None:
            return reply(None, 204)
        if self.sites_of(found):
            raise conflict("Server farm cannot be deleted because it has web app(s) assigned to it.")
        self._subscription.store.delete(found.id)
        return reply()


def checked_plan(found: RestResource | None, id_: str) -> RestResource:
    """Return the plan of a web app. Raises ServiceRefusalError if no plan has the id."""
    if found is None:
        raise ServiceRefusalError(404, "NotFound", f"Cannot find ServerFarm with id {id_}.")
    return found
