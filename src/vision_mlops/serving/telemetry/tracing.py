"""W3C trace context: the trace that a request belongs to and, if OpenTelemetry is configured, a span for it.

Every request has a trace id and a span id, which stand in its log line. Spans are exported where a variable names a place:
``APPLICATIONINSIGHTS_CONNECTION_STRING`` or ``OTEL_EXPORTER_OTLP_ENDPOINT``. Then the SDK's own variables count, too, such
as ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME``, ``OTEL_BSP_SCHEDULE_DELAY`` and ``OTEL_SDK_DISABLED``.

    check_tracing()                                  # the supervisor, at its start: what is wrong is said there
    tracing = start_tracing()                        # a worker, after the fork: the SDK exports in a thread
    context = tracing.begin(traceparent, tracestate)
    tracing.end(context, AnsweredRequest(...))
    tracing.close()                                  # at its end: exports what is left, for some seconds at most
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vision_mlops import __version__
from vision_mlops.azure.application_insights import check_connection_string, require_exporter, span_exporter
from vision_mlops.core import paths
from vision_mlops.core.errors import ConfigError, ServingError
from vision_mlops.serving.telemetry.server_log import AnsweredRequest
from vision_mlops.serving.telemetry.trace_context import SAMPLED, TraceContext, read_context

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

AZURE_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
OTLP_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SERVICE = "vision-mlops"
_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PACKAGES = {"azure": "azure-monitor-opentelemetry-exporter", "otlp": "opentelemetry-exporter-otlp-proto-http"}


class Tracing:
    """Begins and ends the span of each request. This one exports nothing; :func:`start_tracing` makes the right one."""

    def begin(self, traceparent: str = "", tracestate: str = "") -> TraceContext:
        """Continue the caller's trace with a new span id, or begin a trace.

        Args:
            traceparent, tracestate: Headers of the request; several of one name joined by commas.
        """
        return read_context(traceparent, tracestate)

    def end(self, context: TraceContext, answered: AnsweredRequest) -> None:
        """Export the span of a request that has been answered.

        Args:
            context: What :meth:`begin` returned.
            answered: The request. Its path is the route of the span: one that the server has, and not what a client sent.
        """

    def close(self, timeout_s: float = 5.0) -> None:
        """Export what is left, for at most this many seconds."""


class ExportingTracing(Tracing):
    """Hands a span for each sampled request to the SDK, which exports it in a thread of its own.

    Ids and decisions are made when a request comes; the SDK's span, which costs more, is made once it is answered, and only
    where it is recorded.

    Args:
        exporters: Receive the spans.
    """

    def __init__(self, exporters: list[SpanExporter]) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import IdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision

        class GivenIds(IdGenerator):
            """Gives the ids that a request already has."""

            trace_id = span_id = 1

            def generate_trace_id(self) -> int:
                return self.trace_id

            def generate_span_id(self) -> int:
                return self.span_id

        self._trace = trace
        self._record = Decision.RECORD_AND_SAMPLE
        self._root = Context()
        self._ids = GivenIds()
        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({"service.version": __version__} | ({} if named else {"service.name": SERVICE}))
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler  # as OTEL_TRACES_SAMPLER says
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE, __version__)

    def begin(self, traceparent: str = "", tracestate: str = "") -> TraceContext:
        """Begin a span as :class:`Tracing` does, with the sampler's decision."""
        context = super().begin(traceparent, tracestate)
        decision = self._sampler.should_sample(self._parent(context), int(context.trace_id, 16), "")
        context.sampled = decision.decision is self._record
        return context

    def end(self, context: TraceContext, answered: AnsweredRequest) -> None:
        """Hand over the span, see :class:`Tracing`."""
        if not context.sampled:
            return
        trace, status = self._trace, answered.status
        attributes: dict[str, Any] = {
            "http.request.method": answered.method,
            "http.route": answered.path,
            "http.response.status_code": status,
            "url.scheme": "http",
            "url.path": answered.path,
        }
        if status >= 500:
            attributes["error.type"] = answered.error or str(status)
        own = {
            "request_id": answered.request_id,
            "model.id": answered.model_id,
            "images": len(answered.labels),
            "queue_ms": answered.queue_ms,
            "inference_ms": answered.inference_ms,
            "error": answered.error,
        }
        attributes |= {f"vision_mlops.{name}": value for name, value in own.items() if value}
        self._ids.trace_id, self._ids.span_id = int(context.trace_id, 16), int(context.span_id, 16)
        span = self._tracer.start_span(
            f"{answered.method} {answered.path}",
            context=self._parent(context),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=context.started_ns,
        )
        if status >= 500:  # what a client did wrong is no error of the server
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    def close(self, timeout_s: float = 5.0) -> None:
        """Export what is left; a place that does not respond in time is given up."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(timeout_s)

    def _parent(self, context: TraceContext) -> Any:
        """Return the caller's span as the SDK wants it."""
        if not context.parent_id:
            return self._root
        trace = self._trace
        state = trace.TraceState.from_header([context.state]) if context.state else None
        flags = trace.TraceFlags(SAMPLED if context.sampled else 0)
        parent = trace.SpanContext(int(context.trace_id, 16), int(context.parent_id, 16), True, flags, state)
        return trace.set_span_in_context(trace.NonRecordingSpan(parent), self._root)


def check_tracing(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return where spans are to go: ``azure``, ``otlp``, both or none.

    Args:
        environ: The environment; that of the process if not given.

    Raises:
        ServingError: the packages for it are not installed.
        ConfigError: a variable has a value that cannot be used; its text is not repeated, as it may hold a key.
    """
    environ = os.environ if environ is None else environ
    wanted: list[str] = []
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return wanted
    if environ.get(AZURE_VARIABLE, "").strip():
        _require("azure", AZURE_VARIABLE)
        check_connection_string(environ[AZURE_VARIABLE])
        wanted.append("azure")
    named = next((name for name in OTLP_VARIABLES if environ.get(name, "").strip()), "")
    if named:
        _require("otlp", named)
        protocol = next((environ[name] for name in _PROTOCOL_VARIABLES if environ.get(name)), "http/protobuf")
        if protocol != "http/protobuf":
            raise ConfigError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is not supported",
                "set http/protobuf, and the endpoint of that protocol, such as http://127.0.0.1:4318",
            )
        if not re.match(r"https?://[^/]", environ[named].strip()):
            raise ConfigError(f"{named} is not an address", "write it like http://127.0.0.1:4318")
        wanted.append("otlp")
    return wanted


def start_tracing(*, retry_after_s: int = 60) -> Tracing:
    """Start the tracing that the environment asks for. It has threads: call this after the fork.

    Args:
        retry_after_s: How long what Application Insights refused for the moment is kept before it is sent again.

    Raises:
        ServingError, ConfigError: as of :func:`check_tracing`.
    """
    wanted = check_tracing()
    exporters: list[SpanExporter] = []
    if "azure" in wanted:
        exporters.append(
            span_exporter(os.environ[AZURE_VARIABLE], paths.home() / "telemetry", retry_after_s=retry_after_s)
        )
    if "otlp" in wanted:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporters.append(OTLPSpanExporter())
    return ExportingTracing(exporters) if exporters else Tracing()


def _require(kind: str, variable: str) -> None:
    try:
        if kind == "azure":
            require_exporter()
        else:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401
    except ImportError as error:
        raise ServingError(
            f"{variable} is set, but the package {_PACKAGES[kind]} is not installed ({error})",
            f"pip install 'vision-mlops[monitor]', or unset {variable}",
        ) from error
