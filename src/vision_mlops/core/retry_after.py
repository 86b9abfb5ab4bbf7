"""The wait that a server asks for: the header Retry-After, and its forms in milliseconds that Azure sends."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import Message

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)


def wait_asked_for(headers: Mapping[str, str] | Message, longest: float = math.inf) -> float | None:
    """Return the seconds that a server asks to wait before the next attempt; None if it does not say.

    Args:
        headers: Of its response.
        longest: The most that is believed, in seconds.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        text = str(headers.get(name) or "").strip()
        try:
            number = _NUMBER.fullmatch(text)
            seconds = float(text) / unit if number else parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            continue
        return min(max(0.0, seconds), longest)
    return None
