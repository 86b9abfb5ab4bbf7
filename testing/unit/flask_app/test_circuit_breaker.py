"""The circuit opens after outages in a row, and one request decides when it closes."""

from __future__ import annotations

import pytest

from vision_mlops.flask_app.app_errors import EndpointError
from vision_mlops.flask_app.circuit_breaker import CircuitBreaker

OUTAGE = EndpointError(504, "endpoint_slow", "It is slow.", outage=True)
REFUSAL = EndpointError(502, "endpoint_unauthorised", "It knows no such key.")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, pause_s=10, clock=clock)


def attempt(breaker: CircuitBreaker, error: BaseException | None = None) -> EndpointError | None:
    """What comes of a request that raises an error; None where it is answered."""
    try:
        with breaker.attempt():
            if error is not None:
                raise error
    except EndpointError as caught:
        return caught
    return None


def open_it(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        assert attempt(breaker, OUTAGE) is OUTAGE


def test_it_opens_after_outages_in_a_row(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    assert breaker.state == "open"
    clock.now = 4
    refusal = attempt(breaker)
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "endpoint_slow", 6)
    assert refusal.message == "It is slow. The next attempt is in 6 s."


@pytest.mark.parametrize("between", [None, REFUSAL])
def test_an_answer_between_outages_keeps_it_closed(breaker: CircuitBreaker, between: EndpointError | None) -> None:
    for _ in range(5):
        attempt(breaker, OUTAGE)
        attempt(breaker, OUTAGE)
        assert attempt(breaker, between) is between
    assert breaker.state == "closed"


def test_after_the_pause_one_request_tries_alone(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now = 10
    before = breaker.state
    with breaker.attempt():
        assert attempt(breaker) is not None, "a second one must wait for the first"
    assert (before, breaker.state) == ("half_open", "closed")
    assert attempt(breaker) is None


def test_a_failed_attempt_opens_it_for_another_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now = 10
    assert attempt(breaker, OUTAGE) is OUTAGE
    clock.now = 19
    assert breaker.state == "open"
    clock.now = 20
    assert attempt(breaker) is None


def test_an_attempt_that_is_broken_off_leaves_room_for_the_next(breaker: CircuitBreaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now = 10
    with pytest.raises(ZeroDivisionError):
        attempt(breaker, ZeroDivisionError())
    assert attempt(breaker) is None
