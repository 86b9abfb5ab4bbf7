"""From which port on endpoints of this machine look for a free one: that of the scoring server's settings."""

from __future__ import annotations

import os

_DEFAULT = 8000
_VARIABLE = "MLOPS_SERVING__PORT"


def first_port() -> int:
    """The port in MLOPS_SERVING__PORT, else 8000. A server refuses a value that is none; nobody looks from it on."""
    text = os.environ.get(_VARIABLE, "")
    return int(text) if text.isdecimal() and 0 < int(text) < 2**16 else _DEFAULT
