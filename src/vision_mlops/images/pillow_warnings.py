"""Pillow's warnings about broken files, kept quiet on any number of threads: what matters becomes an error of ours."""

from __future__ import annotations

import threading
import warnings

from PIL import Image


class SuppressedWarnings:
    """Silences Pillow's warnings while any thread decodes: the first one in sets the filters, the last one restores them.

    A catch_warnings per call would, where threads overlap, leave the filters of one behind in the whole process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                # Our own limit is checked too; Pillow's warning about it would only repeat the message.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                warnings.simplefilter("ignore", UserWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


QUIET = SuppressedWarnings()
