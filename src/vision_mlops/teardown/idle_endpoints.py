"""Whether an online endpoint of Azure ML has had requests recently, as counted by Azure Monitor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError

METRIC = "RequestsPerMinute"
_METRICS, _ENDPOINTS = "2023-10-01", "2023-10-01"


def why_idle(settings: AzureSettings, endpoint: str, days: int, now: datetime | None = None) -> str:
    """Why an endpoint counts as idle; empty if it is in use, is younger than ``days``, or the metrics may not be read.

    Raises:
        AzureError: Azure cannot be reached.
    """
    moment = now or datetime.now(UTC)
    reads = ResourceManager(settings)
    path = f"{reads.workspace}/onlineEndpoints/{endpoint}"
    since = moment - timedelta(days=days)
    try:
        made = reads.get(f"endpoint {endpoint!r}", path, _ENDPOINTS).get("systemData", {}).get("createdAt")
        if made and datetime.fromisoformat(made) > since:
            return ""
        span = f"{since:%Y-%m-%dT%H:%M:%SZ}/{moment:%Y-%m-%dT%H:%M:%SZ}"
        query = {"metricnames": METRIC, "timespan": span, "interval": "P1D", "aggregation": "Total"}
        found = reads.get(
            f"requests of endpoint {endpoint!r}", f"{path}/providers/Microsoft.Insights/metrics", _METRICS, **query
        )
    except AzureError as error:
        if not error.status:
            raise
        return ""  # it exists, but nobody knows whether it is idle
    finally:
        reads.close()
    values = [
        float(point.get("total") or 0)
        for metric in found.get("value", [])
        for series in metric.get("timeseries", [])
        for point in series.get("data", [])
    ]
    return f"no request in {days} days" if not sum(values) else ""
