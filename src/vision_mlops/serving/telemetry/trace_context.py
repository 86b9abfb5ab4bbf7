"""W3C trace context, https://www.w3.org/TR/trace-context: what its headers say, and where a request stands in its trace."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_KEY = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}")
_STATE_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST_STATES = 32
SAMPLED = 1

_UNPRINTABLE = re.compile(r"[^A-Za-z0-9._:-]")


@dataclass(slots=True)
class TraceContext:
    """Where a request stands in its trace. Ids are hexadecimal, in lower case.

    Attributes:
        trace_id: 32 digits.
        span_id: Id of this server's part, 16 digits.
        parent_id: Id of the caller's part; empty if the trace begins here.
        sampled: Whether a span is recorded; without an exporter, what the caller decided.
        state: The caller's ``tracestate``.
        started_ns: When the request came, in nanoseconds since 1970.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = False
    state: str = ""
    started_ns: int = 0


def parse_traceparent(text: str) -> tuple[str, str, bool] | None:
    """Return trace id, parent id and sampled flag of a header ``traceparent``; None if it is not valid.

    Of versions after 00 the known part counts, whatever follows it. Where the header came twice, its values joined by a
    comma are not valid, as the specification wants it.
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return trace_id, parent_id, bool(int(flags, 16) & SAMPLED)


def parse_tracestate(text: str) -> str:
    """Return a header ``tracestate`` without spaces and empty members; empty if anything in it is not valid."""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    keys = set()
    for member in members:
        key, _, value = member.partition("=")
        if not _STATE_KEY.fullmatch(key) or not _STATE_VALUE.fullmatch(value) or key in keys:
            return ""
        keys.add(key)
    return ",".join(members) if len(members) <= _MOST_STATES else ""


def read_context(traceparent: str = "", tracestate: str = "") -> TraceContext:
    """Continue the caller's trace with a new span id, or begin a trace where the header is missing or not valid.

    Args:
        traceparent, tracestate: Headers of the request; several of one name joined by commas.
    """
    parent = parse_traceparent(traceparent) if traceparent else None
    span_id = _new_id(64, 16)
    if parent is None:
        return TraceContext(_new_id(128, 32), span_id, started_ns=time.time_ns())
    trace_id, parent_id, sampled = parent
    return TraceContext(trace_id, span_id, parent_id, sampled, parse_tracestate(tracestate), time.time_ns())


def request_id_of(given: str) -> str:
    """Return the id of a request: the client's, without characters that could forge a line of a log, or a new one."""
    return _UNPRINTABLE.sub("", given)[:128] or _new_id(128, 32)


def _new_id(bits: int, digits: int) -> str:
    """Return a random id that is not zero. Python seeds its generator again in each forked process."""
    return f"{random.getrandbits(bits) or 1:0{digits}x}"
