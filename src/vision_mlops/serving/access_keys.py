"""The keys of a scoring server: from its environment, and from a file that may change while it serves.

A file holds one key a line, such as a primary and a secondary one; each is valid. To change a key without a gap, replace
one while clients use the other. Whoever writes the file replaces it whole, as Kubernetes does with a mounted secret.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from vision_mlops.core.errors import ServingError

KEY_NAMES = ("primary", "secondary")
"""The keys of an endpoint, in the order of the lines of a file."""
KEY_VARIABLE = "MLOPS_SCORING_KEY"
FILE_VARIABLE = "MLOPS_SCORING_KEY_FILE"
_LOG = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.9
"""Shortest pause before the file is read again. Time stamps do not help: two writes in quick succession share one."""
_MOST_BYTES = 65_536


class AccessKeys:
    """The valid keys of one process.

    Args:
        fixed: Keys that stay.
        file: File with further keys.

    Raises:
        ServingError: the file cannot be read, or has no key.
    """

    def __init__(self, fixed: Iterable[str] = (), file: Path | None = None) -> None:
        self._fixed = tuple(key.encode() for key in fixed if key)
        self._file = file
        self._from_file: tuple[bytes, ...] = ()
        self._problem = ""
        self._looked = time.monotonic()
        if file is not None:
            self._from_file, problem = _read(file)
            if problem:
                raise ServingError(
                    f"{FILE_VARIABLE}: {file} {problem}", "give a file with one key per line, which the server may read"
                )

    def __bool__(self) -> bool:
        return bool(self._fixed or self._from_file)

    def accepts(self, given: bytes) -> bool:
        """Return whether a key is valid, in constant time."""
        accepted = False
        for key in (*self._fixed, *self._from_file):
            accepted |= hmac.compare_digest(given, key)
        return accepted

    def refresh(self) -> None:
        """Read the file again, at most once a second. If it has no keys, the last ones stay valid."""
        now = time.monotonic()
        if self._file is None or now - self._looked < _PAUSE_SECONDS:
            return
        self._looked = now
        keys, problem = _read(self._file)
        if problem:
            if problem != self._problem:
                _LOG.warning("%s %s: the keys stay as they are", self._file, problem)
        elif keys != self._from_file:
            self._from_file = keys
            _LOG.warning("the keys have changed: %d are valid", len({*self._fixed, *keys}))
        self._problem = problem


def new_key() -> str:
    """Return a random key."""
    return secrets.token_urlsafe(32)


def keys_of_environment() -> AccessKeys:
    """Return the keys that MLOPS_SCORING_KEY and MLOPS_SCORING_KEY_FILE give, if any. Raises ServingError."""
    file = os.environ.get(FILE_VARIABLE)
    return AccessKeys([os.environ.get(KEY_VARIABLE, "")], Path(file) if file else None)


def _read(file: Path) -> tuple[tuple[bytes, ...], str]:
    """Return the keys of a file, and what is wrong with it."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        return (), f"cannot be read: {error.strerror}"
    if len(content) > _MOST_BYTES:
        return (), f"is larger than {_MOST_BYTES} bytes"
    keys = tuple(line.strip() for line in content.splitlines() if line.strip())
    return keys, "" if keys else "has no key"
