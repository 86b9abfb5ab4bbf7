"""The wait that a server asks for."""

from __future__ import annotations

from email.message import Message
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from vision_mlops.core import retry_after
from vision_mlops.core.retry_after import wait_asked_for


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock."""
    monkeypatch.setattr(retry_after, "time", SimpleNamespace(time=lambda: 1_800_000_000.25))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": formatdate(1_800_000_060, usegmt=True)}, 59.75),
        ({"Retry-After": formatdate(0, usegmt=True)}, 0),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "7"}, 7),
        ({"Retry-After": "9" * 400}, 60),
    ],
)
def test_a_wait(headers: dict[str, str], seconds: float) -> None:
    assert wait_asked_for(headers, 60) == seconds


@pytest.mark.parametrize("odd", ["", "soon", "-3", "1e3", "nan", "\u0663", "Thu, 99 Foo 2026"])
def test_what_cannot_be_read_is_no_wait(odd: str) -> None:
    assert wait_asked_for({"Retry-After": odd}) is None
    assert wait_asked_for({}) is None


def test_headers_in_any_case() -> None:
    headers = Message()
    headers["RETRY-AFTER"] = "7"
    assert wait_asked_for(headers) == 7
