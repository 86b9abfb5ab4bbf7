"""Autoscale settings of Azure Monitor for deployments of online endpoints: kept and checked, but nothing is scaled."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, ServiceRefusalError, malformed, reply, route

GROUP_PATH = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Insights"
_MOST_PROFILES, _MOST_RULES = 20, 10
_TRIGGER = (
    "metricName", "metricResourceUri", "timeGrain", "statistic", "timeWindow", "timeAggregation", "operator", "threshold",
)  # fmt: skip
_ACTION = ("direction", "type", "cooldown")


class AutoscaleRoutes:
    """The calls about autoscale settings."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def routes(self) -> list[Route]:
        """Return the paths."""
        base = GROUP_PATH + "/autoscaleSettings"
        return [
            route(base, GET=self._list),
            route(base + "/{name}", GET=self._get, PUT=self._put, DELETE=self._delete),
        ]

    def _list(self, call: RestCall) -> Response:
        return reply(self._subscription.page(self._subscription.store.children(call.path), call))

    def _get(self, call: RestCall) -> Response:
        return reply(self._subscription.store.get(call.path, f"autoscale setting {call.names['name']!r}").to_dict())

    def _put(self, call: RestCall) -> Response:
        if not call.body.get("location"):
            raise malformed("an autoscale setting needs a location")
        properties = call.properties
        target = str(properties.get("targetResourceUri") or "")
        if "/onlineEndpoints/" not in target or "/deployments/" not in target:
            raise malformed(f"the target resource {target!r} does not support autoscaling")
        deployment = self._subscription.store.find(target)
        if deployment is None:
            raise ServiceRefusalError(404, "ResourceNotFound", f"the target resource {target!r} was not found")
        if deployment.properties.get("endpointComputeType") != "Managed":
            raise malformed(f"the target resource {target!r} does not support autoscaling")
        _check(properties)
        body = {**call.body, "type": "Microsoft.Insights/autoscaleSettings"}
        body["properties"] = {"name": call.names["name"], "enabled": False, "notifications": [], **properties}
        made, new = self._subscription.store.put(call.path, body)
        return reply(made.to_dict(), 201 if new else 200)

    def _delete(self, call: RestCall) -> Response:
        return reply(None, 200 if self._subscription.store.delete(call.path) else 204)


def _check(properties: Json) -> None:
    """Refuse profiles that the service refuses.

    Raises:
        ServiceRefusalError: 400.
    """
    profiles = properties.get("profiles") or []
    if not 1 <= len(profiles) <= _MOST_PROFILES:
        raise malformed(f"an autoscale setting must have 1 to {_MOST_PROFILES} profiles, not {len(profiles)}")
    for profile in profiles:
        capacity = profile.get("capacity") or {}
        words = [str(capacity.get(key, "")) for key in ("minimum", "default", "maximum")]
        if not all(word.isdecimal() for word in words):
            raise malformed("the capacity of a profile needs minimum, maximum and default as numbers in text")
        least, usual, most = map(int, words)
        if not least <= usual <= most:
            raise malformed(
                f"the capacity {least} <= {usual} <= {most} of the profile {profile.get('name')!r} is not in order"
            )
        rules = profile.get("rules")
        if rules is None or len(rules) > _MOST_RULES:
            raise malformed(f"a profile must have rules, at most {_MOST_RULES}")
        for rule in rules:
            for part, keys in (("metricTrigger", _TRIGGER), ("scaleAction", _ACTION)):
                if absent := [key for key in keys if (rule.get(part) or {}).get(key) is None]:
                    raise malformed(f"the {part} of a rule has no {', '.join(absent)}")
