"""W3C trace context: who called, under which trace; and, where OpenTelemetry is set up, a span for each request.

Without OpenTelemetry the ids still stand in the log, so that a request can be followed through it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Ids in hexadecimal. ``parent_id`` is empty where the trace begins here."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = False
    state: str = ""


def read_context(traceparent: str, tracestate: str = "") -> TraceContext:
    """Continue the caller's trace with a span of our own, or begin one where the header is missing or not valid.

    Args:
        traceparent: As of https://www.w3.org/TR/trace-context; of a later version the first four fields count.
        tracestate: Handed on as it is, with a valid ``traceparent`` only.
    """
    span_id = _new_id(64, 16)
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is not None:
        version, trace_id, parent_id, flags, more = found.groups()
        known = version != "ff" and (version != "00" or more is None)
        if known and trace_id != _NO_TRACE and parent_id != _NO_SPAN:
            return TraceContext(trace_id, span_id, parent_id, bool(int(flags, 16) & 1), tracestate[:512])
    return TraceContext(_new_id(128, 32), span_id)


def _new_id(bits: int, digits: int) -> str:
    """Random and not zero. Python seeds its generator anew in each forked process."""
    return f"{random.getrandbits(bits) or 1:0{digits}x}"


def new_request_id() -> str:
    """An id for a request that came without one."""
    return _new_id(128, 32)
