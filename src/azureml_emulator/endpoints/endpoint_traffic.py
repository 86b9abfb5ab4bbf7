"""The number of requests of an online endpoint by day, as Azure Monitor reports it; counted since the emulator started."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta

from starlette.responses import Response
from starlette.routing import Route

from azureml_emulator.resources.arm_paths import LOCATION, WORKSPACE
from azureml_emulator.resources.subscription import Subscription
from azureml_emulator.rest.rest_calls import Json, RestCall, malformed, reply, route

METRIC = "RequestsPerMinute"
_NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
_LONGEST_DAYS = 93


class EndpointTraffic:
    """Counts requests, and responds to the calls about them."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, date]] = Counter()

    def note(self, endpoint: str) -> None:
        """Count a request to the endpoint at a path."""
        with self._lock:
            self._counts[endpoint.lower(), datetime.now(UTC).date()] += 1

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._counts.clear()

    def routes(self) -> list[Route]:
        """Return the paths."""
        before = self._subscription.require_workspace
        path = WORKSPACE + "/onlineEndpoints/{endpoint}/providers/Microsoft.Insights/metrics"
        return [route(path, before, GET=self._metrics)]

    def _metrics(self, call: RestCall) -> Response:
        endpoint = call.path.partition("/providers/Microsoft.Insights")[0]
        self._subscription.store.get(endpoint)
        asked = call.query.get("metricnames", "")
        if asked != METRIC or call.query.get("interval", "P1D") != "P1D":
            raise malformed(f"Failed to find metric configuration for {asked}: only {METRIC} by P1D is counted here")
        first, last = _timespan(call.query.get("timespan", ""))
        with self._lock:
            counts = {day: number for (path, day), number in self._counts.items() if path == endpoint.lower()}
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        series: list[Json] = [{"timeStamp": f"{day}T00:00:00Z", "total": float(counts.get(day, 0))} for day in days]
        metric = {
            "id": f"{endpoint}/providers/Microsoft.Insights/metrics/{METRIC}",
            "type": "Microsoft.Insights/metrics",
            "name": {"value": METRIC, "localizedValue": "Requests Per Minute"},
            "unit": "Count",
            "timeseries": [{"metadatavalues": [], "data": series}],
            "errorCode": "Success",
        }
        answer = {"cost": 0, "timespan": call.query.get("timespan"), "interval": "P1D", "value": [metric]}
        return reply({**answer, "namespace": _NAMESPACE, "resourceregion": LOCATION})


def _timespan(text: str) -> tuple[date, date]:
    """Return first and last day. Raises ServiceRefusalError."""
    try:
        first, last = (datetime.fromisoformat(part).date() for part in text.split("/"))
    except ValueError as error:
        raise malformed(f"the timespan {text!r} is not of the form START/END") from error
    if not timedelta(0) <= last - first <= timedelta(days=_LONGEST_DAYS):
        raise malformed(f"the timespan {text!r} is longer than {_LONGEST_DAYS} days, or ends before it starts")
    return first, last
