"""The format of times, durations, sizes and states on pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_GOOD = frozenset({"Completed", "Succeeded", "Steady"})
_BAD = frozenset({"Failed", "CreateFailed", "Unusable", "Crashed"})
_OFF = frozenset({"Canceled", "NotStarted", "Stopped", "Disabled", "Skipped"})


def moment(text: str) -> str:
    """Return a time that the service wrote, to the second, in UTC; a dash for none."""
    found = _parsed(text)
    return found.strftime("%Y-%m-%d %H:%M:%S") if found else "–"


def duration(start: str, end: str) -> str:
    """Return the duration from one time to another, or until now; a dash if it has not begun."""
    first = _parsed(start)
    if first is None:
        return "–"
    seconds = max(timedelta(), (_parsed(end) or datetime.now(UTC)) - first).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def size(number: int) -> str:
    """Return a number of bytes as text."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def tone(state: str) -> str:
    """Return the colour of a state: good, bad, off, or busy for everything in progress."""
    return next((word for word, states in (("good", _GOOD), ("bad", _BAD), ("off", _OFF)) if state in states), "busy")


def _parsed(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
