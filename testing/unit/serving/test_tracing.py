"""Trace context as the specification has it, and what is said where traces cannot be exported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vision_mlops.core.errors import ConfigError, MlopsError, ServingError
from vision_mlops.serving.telemetry.server_log import AnsweredRequest
from vision_mlops.serving.telemetry.trace_context import parse_traceparent, parse_tracestate
from vision_mlops.serving.telemetry.tracing import Tracing, check_tracing, start_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
STRING = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=https://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # a second flag, of level 2
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{SPAN}-01-", True),
    ],
)
def test_valid_parents(text: str, sampled: bool) -> None:
    assert parse_traceparent(text) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-0100",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}1-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01,cc-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"{'0' * 5000}",
    ],
)
def test_invalid_parents_begin_a_new_trace(text: str) -> None:
    assert parse_traceparent(text) is None
    begun = Tracing().begin(text, "a=1")
    assert begun.trace_id not in (TRACE, "0" * 32)
    assert (begun.parent_id, begun.state, begun.sampled) == ("", "", False)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("congo=t61rcWkgMzE", "congo=t61rcWkgMzE"),
        ("rojo=00f067aa0ba902b7, congo=t61 rcW", "rojo=00f067aa0ba902b7,congo=t61 rcW"),
        (",a=1,\t,b=2 ,", "a=1,b=2"),
        ("fw529a3039@dt=FfAA", "fw529a3039@dt=FfAA"),
        ("0a=1", "0a=1"),
        ("", ""),
        ("a", ""),
        ("a=", ""),
        ("=1", ""),
        ("A=1", ""),
        ("a=1=2", ""),
        ("a=\x01", ""),
        ("a=\u00e9", ""),
        ("a=1,a=2", ""),
        (f"{'a' * 256}=1", f"{'a' * 256}=1"),
        (f"{'a' * 257}=1", ""),
        (f"a={'1' * 256}", f"a={'1' * 256}"),
        (f"a={'1' * 257}", ""),
        (",".join(f"k{number}=1" for number in range(32)), ",".join(f"k{number}=1" for number in range(32))),
        (",".join(f"k{number}=1" for number in range(33)), ""),
    ],
    ids=range(20),
)
def test_states(text: str, kept: str) -> None:
    assert parse_tracestate(text) == kept


def test_a_trace_goes_on_with_a_span_of_our_own() -> None:
    tracing = Tracing()
    one, two = (tracing.begin(f"00-{TRACE}-{SPAN}-01", "a=1") for _ in range(2))
    assert (one.trace_id, one.parent_id, one.sampled, one.state) == (TRACE, SPAN, True, "a=1")
    assert len({one.span_id, two.span_id, SPAN}) == 3
    assert len(one.span_id) == 16
    assert tracing.begin().trace_id != tracing.begin().trace_id
    tracing.end(one, AnsweredRequest(0.0, "r-1", "POST", "/score", 200, 1.5))
    tracing.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPLICATIONINSIGHTS_CONNECTION_STRING", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_exported_unless_asked_for() -> None:
    assert check_tracing({}) == []
    assert type(start_tracing()) is Tracing
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        assert check_tracing({"APPLICATIONINSIGHTS_CONNECTION_STRING": STRING, name: value}) == []


@pytest.mark.parametrize(
    ("variables", "places"),
    [
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": STRING}, ["azure"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ["otlp"]),
        (
            {
                "APPLICATIONINSIGHTS_CONNECTION_STRING": STRING,
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://h/v1/traces",
            },
            ["azure", "otlp"],
        ),
    ],
    ids=["azure", "otlp", "both"],
)
def test_places(variables: dict[str, str], places: list[str]) -> None:
    assert check_tracing(variables) == places


@pytest.mark.parametrize(
    ("missing", "variables", "package"),
    [
        (
            "azure.monitor.opentelemetry.exporter",
            {"APPLICATIONINSIGHTS_CONNECTION_STRING": STRING},
            "azure-monitor-opentelemetry-exporter",
        ),
        (
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"},
            "opentelemetry-exporter-otlp-proto-http",
        ),
    ],
    ids=["azure", "otlp"],
)
def test_a_missing_extra_is_named(
    missing: str, variables: dict[str, str], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ServingError, match=rf"{next(iter(variables))} is set, but the package {package} is not"
    ) as raised:
        check_tracing(variables)
    assert "pip install 'vision-mlops[monitor]'" in raised.value.hint


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": "secret-key"}, "has no InstrumentationKey"),
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=;x"}, "has no InstrumentationKey"),
        (
            {"APPLICATIONINSIGHTS_CONNECTION_STRING": STRING.partition(";")[0] + ";IngestionEndpoint=secret-key"},
            "IngestionEndpoint that is not an address",
        ),
        ({"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=secret-key"}, "not a UUID"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "h:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not an address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc is not supported"),
    ],
    ids=range(6),
)
def test_wrong_variables(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_tracing(variables)
    assert isinstance(raised.value, MlopsError)
    assert "secret-key" not in str(raised.value)


def test_the_server_does_not_load_what_it_does_not_need() -> None:
    script = (
        "import sys; from vision_mlops.serving.telemetry.tracing import start_tracing; start_tracing();"
        "assert not {'opentelemetry', 'azure', 'requests'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
