"""OpenVINO, imported only where it is needed: that takes a second, and not every installation has it."""

from __future__ import annotations

import threading
from typing import Any

from vision_mlops.core import library_settings
from vision_mlops.core.errors import require

_lock = threading.Lock()
_core: Any = None


def load_openvino() -> Any:
    """Import ``openvino`` without reports about its use. Raises MissingExtraError if it is not installed."""
    library_settings.apply()
    require("openvino")
    import openvino

    return openvino


def shared_core() -> Any:
    """The ``openvino.Core`` of this process, which reads and compiles every model and is never freed.

    On processors with AMX, the CPU plugin of a core gives the thread that loads it another stack for signals, and unmaps
    it when the core is freed. If that happens in another thread, or while a later core is alive, the next signal ends the
    process with a segmentation fault: Ctrl-C after two models were compared, or SIGTERM after a server changed its model.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    global _core
    openvino = load_openvino()
    with _lock:
        if _core is None:
            _core = openvino.Core()
    return _core
