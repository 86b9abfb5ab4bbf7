"""The scoring thread: what it is given, in which order, and what it lets go of."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.scoring_queue import Job, Scorer


class Request:
    """Refers to its job, as the server's does, which is told the request to call back with."""

    def __init__(self) -> None:
        self.job: Job | None = None


def _number(number: int, job: Job) -> int:
    return number


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("no_collector")
def test_an_answered_request_does_not_wait_for_the_collector(fails: bool) -> None:
    def work(request: Request, job: Job) -> str:
        if fails:
            raise ValueError("cannot be scored")
        return "scored"

    async def ask() -> weakref.ref[Request]:
        scorer = Scorer(limit=2)
        answered = asyncio.Event()

        def done(request: Request, result: Any, error: Exception | None) -> None:
            assert (result, type(error)) == ((None, ValueError) if fails else ("scored", type(None)))
            answered.set()

        request = Request()
        request.job = scorer.submit(partial(work, request), partial(done, request))
        gone = weakref.ref(request)
        del request
        await answered.wait()
        for _ in range(200):  # the thread lets go a moment after it has called back
            await asyncio.sleep(0.005)
            if gone() is None:
                break
        scorer.close()
        return gone

    assert asyncio.run(ask())() is None


def test_jobs_run_in_order_and_more_than_the_limit_are_refused() -> None:
    async def ask() -> list[int]:
        scorer = Scorer(limit=3)
        results: list[int] = []
        everything = asyncio.Event()

        def done(result: int, error: Exception | None) -> None:
            results.append(result)
            if len(results) == 3:
                everything.set()

        for number in range(3):
            scorer.submit(partial(_number, number), done)
        with pytest.raises(RequestError, match="try again in 1 s"):
            scorer.submit(lambda job: 0, done)
        await everything.wait()
        assert scorer.pending == 0
        scorer.close()
        return results

    assert asyncio.run(ask()) == [0, 1, 2]
