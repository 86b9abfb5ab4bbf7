"""Faults as text: what they strike, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from azureml_emulator.rest.fault_expressions import parse_fault
from azureml_emulator.rest.faults import Faults

JOB = "/subscriptions/s/workspaces/ws/jobs/one"


def test_an_expression_strikes_the_calls_that_it_names_as_often_as_it_says() -> None:
    faults = Faults()
    faults.add(parse_fault("PUT .*/jobs/.* 503 x2"))
    assert faults.take("GET", JOB) is None
    assert faults.take("PUT", "/subscriptions/s/workspaces/ws/data/jobs") is None
    struck = [faults.take("PUT", JOB) for _ in range(3)]
    assert [fault and (fault.kind, fault.status, fault.code) for fault in struck] == [
        ("answer", 503, "ServiceUnavailable"), ("answer", 503, "ServiceUnavailable"), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "status", "after"),
    [
        ("* .* drop", "drop", 500, None),
        ("post .*/cancel lose x3", "lose", 500, None),
        ("GET https://management.azure.com/.* 429 after 7", "answer", 429, 7.0),
        ("GET .* 404", "answer", 404, None),
    ],
)
def test_what_happens(text: str, kind: str, status: int, after: float | None) -> None:
    fault = parse_fault(text)
    assert (fault.kind, fault.status, fault.retry_after) == (kind, status, after)


def test_a_pattern_with_a_host_looks_at_the_host() -> None:
    fault = parse_fault("GET https://management.azure.com/.*/jobs/.* 500")
    assert fault.matches("GET", JOB, "management.azure.com")
    assert not fault.matches("GET", JOB, "westeurope.api.azureml.ms")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not have the form METHOD PATTERN WHAT"),
        ("PUT .*", "WHAT [xN] [after SECONDS]\n  -> write for example 'PUT"),
        ("PUT .* 503 twice", "does not have the form"),
        ("FETCH .* 503", "'FETCH' in 'FETCH .* 503' is not a method\n  -> use one of GET"),
        ("PUT *( 503", "'*(' in 'PUT *( 503' is not a regular expression"),
        ("PUT .* 200", "'200' in 'PUT .* 200' is not something that can happen to a call\n  -> use a status"),
        ("PUT .* 503 x0", "a fault happens at least once\n  -> write x1"),
    ],
)
def test_a_wrong_expression_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_fault(text)
    assert reason in str(raised.value)
