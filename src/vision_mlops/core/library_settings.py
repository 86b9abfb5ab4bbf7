"""Settings of libraries: write below the home folder only, do not report usage, and keep freed memory."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vision_mlops.core import paths

CACHES = {
    "MPLCONFIGDIR": "matplotlib",  # list of fonts
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",  # otherwise a folder for temporary files, made by importing Lightning
    "TORCH_HOME": "torch",  # downloaded weights, as in the next two
    "HF_HUB_CACHE": "huggingface/hub",
    "HF_XET_CACHE": "huggingface/xet",
}
"""Folders below ``cache/`` of the home folder, by the variable that a library reads."""

_NO_REPORTS = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's allocator, as <malloc.h> numbers them
_KEPT_BYTES = 16 * 2**20
_MAPPED_BYTES = 32 * 2**20
"""Largest that glibc accepts."""


def apply() -> None:
    """Set the variables that are not set, and keep OpenVINO's telemetry from OpenVINO and NNCF.

    Each process needs this before the first import of such a library; variables that a user has set stay. The telemetry of
    OpenVINO has no variable: if installed, it writes an id below the user's home folder and calls an analytics service.
    """
    caches = paths.home() / "cache"
    for variable, folder in CACHES.items():
        os.environ.setdefault(variable, str(caches / folder))
    for variable, value in _NO_REPORTS.items():
        os.environ.setdefault(variable, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what imports it is told it is missing


@contextmanager
def loading() -> Iterator[None]:
    """Load modules without a garbage collection after every 700 new objects, which takes a quarter of the time.

    Threads may be in here at once: the one that switched the search off switches it on again.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


def keep_freed_memory() -> None:
    """Let the process keep up to 16 MiB of freed memory, instead of returning each image's buffers and asking again.

    With glibc only; elsewhere without effect. A photo of 12 megapixels passes through four buffers of 2 to 4 MB, whose
    pages the kernel would clear for every photo: a tenth of the time that decoding takes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)
