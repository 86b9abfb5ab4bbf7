"""Handles Ctrl-C and similar signals while a job runs: the first asks for an orderly end, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

# A closed terminal and SIGTERM mean the same as Ctrl-C: the steps must not continue alone.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Context manager that listens for signals. ``asked`` says that one has come; the next raises KeyboardInterrupt.

    The first one only sets a flag, so that it never interrupts between the start of a process and the note that it runs.
    Outside of the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs of a script have it
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
