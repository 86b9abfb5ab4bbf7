"""Application Insights: the one place that creates its exporter, which sends what it gets and nothing about itself."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops.core.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

# By default, it reports its own use to Microsoft, and asks Microsoft for settings. Variables of the user take precedence.
_SILENT = {
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED": "true",
}
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STORED_BYTES = 50 * 1024 * 1024
_SILENT_SECONDS = 10


def require_exporter() -> None:
    """Raise ImportError if the exporter is not installed."""
    _be_silent()
    import azure.monitor.opentelemetry.exporter  # noqa: F401


def check_connection_string(text: str) -> None:
    """Raise ConfigError if a text is not a connection string. The message does not repeat it, because it contains a key."""
    parts = dict(pair.partition("=")[::2] for pair in text.strip().strip(";").split(";"))
    named = {name.strip().lower(): value.strip() for name, value in parts.items()}
    hint = "copy it from the overview of the Application Insights resource: InstrumentationKey=...;IngestionEndpoint=https://..."
    if not named.get("instrumentationkey"):
        raise ConfigError("APPLICATIONINSIGHTS_CONNECTION_STRING has no InstrumentationKey", hint)
    if not _KEY.fullmatch(named["instrumentationkey"]):
        raise ConfigError("the InstrumentationKey of APPLICATIONINSIGHTS_CONNECTION_STRING is not a UUID", hint)
    endpoint = named.get("ingestionendpoint", "https://")
    if not endpoint.startswith(("https://", "http://")):
        raise ConfigError("APPLICATIONINSIGHTS_CONNECTION_STRING has an IngestionEndpoint that is not an address", hint)


def span_exporter(connection_string: str, storage: Path, *, retry_after_s: int = 60) -> SpanExporter:
    """Create the exporter of Application Insights. It signs in if APPLICATIONINSIGHTS_AUTHENTICATION_STRING asks for it.

    Args:
        connection_string: Connection string of the resource.
        storage: Folder for data that could not be sent, to be sent later: at most 50 MB and two days.
        retry_after_s: Seconds that it stays there at least.

    Raises:
        ConfigError: the connection string cannot be used.
    """
    _be_silent()
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

    try:
        exporter: SpanExporter = AzureMonitorTraceExporter(
            connection_string=connection_string.strip().strip(";"),
            storage_directory=str(storage),
            storage_max_size=_STORED_BYTES,
            storage_min_retry_interval=retry_after_s,
            timeout=_SILENT_SECONDS,
            read_timeout=_SILENT_SECONDS,
            retry_total=3,
        )
    except ValueError as error:
        raise ConfigError(
            f"APPLICATIONINSIGHTS_CONNECTION_STRING cannot be used: {error}",
            "copy it from the overview of the Application Insights resource",
        ) from error
    return exporter


def _be_silent() -> None:
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
