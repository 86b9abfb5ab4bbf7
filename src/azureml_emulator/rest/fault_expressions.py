"""Faults as text, such as ``PUT .*/jobs/.* 503 x2``: method, pattern of the address, what happens, and how often."""

from __future__ import annotations

import re
from http import HTTPStatus

from azureml_emulator.rest.faults import Fault

FORM = "METHOD PATTERN WHAT [xN] [after SECONDS]"
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "*")
_CODES = {429: "TooManyRequests", 500: "InternalServerError", 503: "ServiceUnavailable"}
_EXPRESSION = re.compile(
    r"(?P<method>\S+)\s+(?P<pattern>\S+)\s+(?P<what>\S+)(?:\s+x(?P<times>\d+))?(?:\s+after\s+(?P<after>\d+(?:\.\d+)?))?"
)


def parse_fault(text: str) -> Fault:
    """Return the fault for an expression.

    ``WHAT`` is a status from 400 to 599, ``drop`` or ``lose``. The pattern is a regular expression for the whole path, or
    for the whole address with its host.

    Raises:
        ValueError: the expression is wrong; the text says where, and what is accepted.
    """
    found = _EXPRESSION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} does not have the form {FORM}\n  -> write for example 'PUT .*/jobs/.* 503 x2'")
    method, what = found["method"].upper(), found["what"].lower()
    if method not in _METHODS:
        problem = f"{found['method']!r} in {text!r} is not a method"
        raise ValueError(f"{problem}\n  -> use one of {', '.join(_METHODS)}")
    try:
        pattern = re.compile(found["pattern"], re.IGNORECASE)
    except re.error as error:
        problem = f"{found['pattern']!r} in {text!r} is not a regular expression: {error}"
        raise ValueError(f"{problem}\n  -> write for example .*/jobs/.*") from error
    times = int(found["times"] or 1)
    if times < 1:
        raise ValueError(f"x{times} in {text!r}: a fault happens at least once\n  -> write x1 or more, or nothing")
    method = "" if method == "*" else method
    if what == "drop":
        return Fault("*", times, method, "drop", pattern=pattern)
    if what == "lose":
        return Fault("*", times, method, "lose", pattern=pattern)
    if not what.isdigit() or not 400 <= int(what) <= 599:
        problem = f"{found['what']!r} in {text!r} is not something that can happen to a call"
        raise ValueError(f"{problem}\n  -> use a status from 400 to 599, drop or lose")
    status = int(what)
    code = _CODES.get(status) or HTTPStatus(status).phrase.replace(" ", "") if status in list(HTTPStatus) else "Error"
    after = float(found["after"]) if found["after"] else (0.05 if status in (429, 500, 503) else None)
    return Fault("*", times, method, "answer", status, code, "a planned fault", retry_after=after, pattern=pattern)
