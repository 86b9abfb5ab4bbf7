"""Pillow's warnings and log, silenced on any number of threads: what matters about a file is raised as an error."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import threading
import warnings

from PIL import _imaging

_PILLOW_LOG = logging.getLogger("PIL")


class SuppressedWarnings:
    """Silences Pillow while any thread decodes: the first one in sets the filters, the last one restores them.

    A catch_warnings per call would, where threads overlap, leave the filters of one behind in the whole process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()
        self._level = logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
                self._level = _PILLOW_LOG.level
                _PILLOW_LOG.setLevel(logging.CRITICAL + 1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)
                _PILLOW_LOG.setLevel(self._level)


@functools.cache
def silence_libtiff() -> None:
    """Keep libtiff from writing to standard error, which it does for every broken strip, from within Pillow."""
    with contextlib.suppress(OSError, AttributeError):  # linked in another way: its messages do no harm
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


QUIET = SuppressedWarnings()
