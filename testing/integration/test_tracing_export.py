"""Spans by the real exporters over real HTTP: what arrives, and that a place which is slow, busy or gone disturbs nobody."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from testing.support import ingestion
from testing.support.ingestion import Ingestion, Trouble, ingesting

from vision_mlops.serving.telemetry.server_log import AnsweredRequest
from vision_mlops.serving.telemetry.tracing import Tracing, start_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def service() -> Iterator[Ingestion]:
    with ingesting() as running:
        yield running


@pytest.fixture
def azure(service: Ingestion, monkeypatch: pytest.MonkeyPatch) -> Ingestion:
    """The service, to which the environment sends traces of Application Insights."""
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", service.connection_string)
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    for name in ("STATSBEAT_DISABLED_ALL", "SDKSTATS_DISABLED", "CONTROLPLANE_DISABLED"):  # set by the code under test
        monkeypatch.setenv(f"APPLICATIONINSIGHTS_{name}", "")
        monkeypatch.delenv(f"APPLICATIONINSIGHTS_{name}")
    return service


@contextlib.contextmanager
def traced(**given: Any) -> Iterator[Tracing]:
    tracing = start_tracing(**given)
    try:
        yield tracing
    finally:
        tracing.close()


def request(tracing: Tracing, parent: str = PARENT, status: int = 200, **more: Any) -> str:
    context = tracing.begin(parent, "congo=t61")
    given = {"inference_ms": 2.5, "queue_ms": 0.5, "model_id": "abc", "labels": ("cat", "cat"), **more}
    tracing.end(context, AnsweredRequest(0.0, "r-1", "POST", "/score", status, 3.5, **given))
    return context.span_id


def test_a_request_arrives_at_application_insights(azure: Ingestion, home: Path) -> None:
    with traced() as tracing:
        span_id = request(tracing)
        (item,) = azure.wait(1)
    assert item["name"] == "Microsoft.ApplicationInsights.Request"
    assert item["tags"]["ai.operation.id"] == TRACE
    assert item["tags"]["ai.operation.parentId"] == SPAN
    assert item["tags"]["ai.operation.name"] == "POST /score"
    assert item["tags"]["ai.cloud.role"] == "vision-mlops"
    data = item["data"]["baseData"]
    assert (data["id"], data["name"], data["responseCode"], data["success"]) == (span_id, "POST /score", "200", True)
    assert data["duration"].startswith("0.00:00:0")
    own = {name: value for name, value in data["properties"].items() if name.startswith("vision_mlops")}
    assert own == {
        "vision_mlops.model.id": "abc",
        "vision_mlops.images": "2",
        "vision_mlops.inference_ms": "2.5",
        "vision_mlops.queue_ms": "0.5",
        "vision_mlops.request_id": "r-1",
    }
    assert set(azure.paths) == {"/v2.1/track"}


def test_errors_of_the_server_are_failures_and_a_trace_may_begin_here(azure: Ingestion) -> None:
    with traced() as tracing:
        request(tracing, parent="", status=503, error="not_ready")
        request(tracing, parent="", status=415, error="not_an_image")
        server, client = azure.wait(2)
    assert "ai.operation.parentId" not in server["tags"]
    assert (server["data"]["baseData"]["responseCode"], server["data"]["baseData"]["success"]) == ("503", False)
    assert (client["data"]["baseData"]["responseCode"], client["data"]["baseData"]["success"]) == ("415", False)
    assert client["data"]["baseData"]["properties"]["vision_mlops.error"] == "not_an_image"


@pytest.mark.parametrize(
    ("sampler", "argument", "from_caller", "begun_here"),
    [
        ("parentbased_always_on", "", 1, 2),
        ("parentbased_always_off", "", 1, 0),
        ("always_on", "", 2, 2),
        ("always_off", "", 0, 0),
        ("parentbased_traceidratio", "0.0", 1, 0),
        ("traceidratio", "1.0", 2, 2),
    ],
)
def test_the_sampler_of_the_environment_decides(
    azure: Ingestion,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    argument: str,
    from_caller: int,
    begun_here: int,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    with traced() as tracing:
        assert tracing.begin(PARENT).sampled == (from_caller > 0)
        request(tracing)
        request(tracing, parent=PARENT[:-1] + "0")
        request(tracing, parent="")
        request(tracing, parent="no parent")
    operations = [item["tags"]["ai.operation.id"] for item in azure.accepted]
    assert operations.count(TRACE) == from_caller
    assert len(operations) == from_caller + begun_here


@pytest.mark.slow
def test_a_busy_service_is_asked_again(azure: Ingestion) -> None:
    azure.troubles = [Trouble(429, {"Retry-After": "0"}), Trouble(500)]
    with traced() as tracing:
        request(tracing)
        azure.wait(1)
    assert azure.statuses == [429, 500, 200]


@pytest.mark.slow
def test_what_was_refused_for_the_moment_is_kept_and_sent_later(azure: Ingestion, home: Path) -> None:
    azure.troubles = [Trouble(206, refused={0: 500, 1: 400})]
    with traced(retry_after_s=1) as tracing:
        kept, lost = request(tracing), request(tracing)
        azure.wait_for_answers(1)
        stored(home)
        time.sleep(1.1)
        last = request(tracing)
        azure.wait(2)
    arrived = {item["data"]["baseData"]["id"] for item in azure.accepted}
    assert arrived == {kept, last}
    assert lost not in arrived
    assert not list((home / "telemetry").iterdir())


def stored(home: Path) -> None:
    """Wait until something is kept to be sent later."""
    wait(lambda: list((home / "telemetry").iterdir()))


def wait(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_service_that_is_down_gets_it_later_from_another_process(azure: Ingestion, home: Path) -> None:
    """The first one cannot send and ends; what it kept goes with what the next one sends."""
    azure.troubles = [Trouble(503, {"Retry-After": "0"})] * 4
    with traced(retry_after_s=1) as tracing:
        first = request(tracing)
        azure.wait_for_answers(4)
        stored(home)
    time.sleep(1.1)
    with traced(retry_after_s=1) as tracing:
        second = request(tracing)
        azure.wait(2)
    assert {item["data"]["baseData"]["id"] for item in azure.accepted} == {first, second}


def test_a_slow_service_disturbs_no_request_and_not_the_end(azure: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    released = threading.Event()
    monkeypatch.setattr(ingestion, "time", SimpleNamespace(sleep=lambda seconds: seconds and released.wait()))
    azure.troubles = [Trouble(seconds=1)]
    tracing = start_tracing()
    request(tracing)
    wait(lambda: azure.paths)
    for _ in range(500):  # more than there is room for
        request(tracing)
    tracing.close(0.2)
    assert azure.statuses == [], "nothing has been answered: nobody has waited for it"
    released.set()
    azure.wait(1)  # the thread that exports ends by itself


def test_without_a_folder_to_keep_it_in_traces_are_sent_all_the_same(azure: Ingestion, home: Path) -> None:
    home.mkdir()
    (home / "telemetry").write_text("in the way")
    with traced() as tracing:
        request(tracing)
        azure.wait(1)


def test_a_request_arrives_at_a_collector(azure: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    monkeypatch.delenv("APPLICATIONINSIGHTS_CONNECTION_STRING")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", azure.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "birds")
    with traced() as tracing:
        span_id = request(tracing)
    (body,) = azure.traces
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert named["service.name"] == "birds"
    (span,) = resource.scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, span_id, SPAN)
    assert span.trace_state == "congo=t61"
    assert span.start_time_unix_nano < span.end_time_unix_nano
    attributes = {each.key: each.value for each in span.attributes}
    assert attributes["http.request.method"].string_value == "POST"
    assert attributes["http.route"].string_value == "/score"
    assert attributes["http.response.status_code"].int_value == 200


WORKER = """
import os, sys
from vision_mlops.serving.telemetry.server_log import AnsweredRequest
from vision_mlops.serving.telemetry.tracing import check_tracing, start_tracing
assert check_tracing() == ["azure"]
for _ in range(2):
    if os.fork() == 0:
        tracing = start_tracing()
        context = tracing.begin(sys.argv[1])
        tracing.end(context, AnsweredRequest(0.0, "r-1", "POST", "/score", 200, 3.5))
        tracing.close()
        print(context.span_id, flush=True)
        os._exit(0)
for _ in range(2):
    assert os.wait()[1] == 0
"""


@pytest.mark.slow
def test_forked_workers_export_each_for_itself(azure: Ingestion) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, PARENT], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stderr == ""
    items = azure.wait(2)
    assert {item["data"]["baseData"]["id"] for item in items} == set(ended.stdout.split())
    assert len(items) == 2
