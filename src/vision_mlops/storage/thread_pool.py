"""Threads that work through items; whoever has a large item shares its parts with those that have nothing else to do."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from vision_mlops.storage.blob_service import TransferStoppedError

Item = TypeVar("Item")
_TICK_SECONDS = 0.1
_MOST_SHARED = 8


class ThreadPool(Generic[Item]):
    """A number of threads.

    Args:
        size: How many.
        stop: Ends what the threads wait for, such as answers; called where one fails or the caller is interrupted.
    """

    def __init__(self, size: int, stop: Callable[[], None]) -> None:
        self._size = size
        self._stop = stop
        self._change = threading.Condition()
        self._items: Iterator[Item] = iter(())
        self._shared: deque[Callable[[], None]] = deque()
        self._busy = 0
        self._running = 0
        self._error: BaseException | None = None

    def run(self, items: Iterable[Item], work: Callable[[Item], None], tick: Callable[[], None] = lambda: None) -> None:
        """Do the work for each item.

        Args:
            items: Taken one after the other.
            work: Called in the threads; what it raises ends all.
            tick: Called in this thread some times a second.

        Raises:
            BaseException: the first that ``work`` raised, or that came to this thread. No thread is left then.
        """
        self._items, self._error = iter(items), None
        threads = [threading.Thread(target=self._serve, args=(work,), daemon=True) for _ in range(self._size)]
        self._running = len(threads)
        try:
            for thread in threads:
                thread.start()
            while self._wait():
                tick()
        except BaseException:
            self._end()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            raise
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def parts(self) -> Parts[Item]:
        """For one large item, in the thread that works on it."""
        return Parts(self)

    def _wait(self) -> bool:
        """Wait a moment, or less where all is done; whether threads are running."""
        until = time.monotonic() + _TICK_SECONDS
        with self._change:
            while self._running and (left := until - time.monotonic()) > 0:
                self._change.wait(left)
            return self._running > 0

    def _end(self) -> None:
        with self._change:
            self._items = iter(())
            self._change.notify_all()
        self._stop()  # from here on, parts that are left fail at once

    def _serve(self, work: Callable[[Item], None]) -> None:
        try:
            while self._one(work):
                pass
        except TransferStoppedError:
            pass  # whoever stopped it knows why
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            with self._change:
                self._error = self._error or error
            self._end()
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def _one(self, work: Callable[[Item], None]) -> bool:
        """Do one thing; False where there is and will be nothing to do."""
        task = self._next(work)
        if task is not None:
            task()
        return task is not None

    def _next(self, work: Callable[[Item], None]) -> Callable[[], None] | None:
        """Parts before items; waits while others may still share parts."""
        with self._change:
            while True:
                if self._shared:
                    return self._shared.popleft()
                for item in self._items:
                    self._busy += 1
                    return partial(self._whole, work, item)
                if not self._busy:
                    return None
                self._change.wait()

    def _whole(self, work: Callable[[Item], None], item: Item) -> None:
        try:
            work(item)
        finally:
            with self._change:
                self._busy -= 1
                if not self._busy:
                    self._change.notify_all()


class Parts(Generic[Item]):
    """Parts of one large item. Use it as a context manager: at its end all parts are done, or one has failed."""

    def __init__(self, pool: ThreadPool[Item]) -> None:
        self._pool = pool
        self._change = pool._change
        self._open = 0
        self._error: BaseException | None = None

    def add(self, call: Callable[[], None]) -> None:
        """Let a thread do a part; where too many wait already, this thread does one first.

        Raises:
            BaseException: what a part before it raised.
        """
        while True:
            with self._change:
                if self._error is not None:
                    raise self._error
                if len(self._pool._shared) < _MOST_SHARED:
                    self._open += 1
                    self._pool._shared.append(lambda: self._do(call))
                    self._change.notify_all()
                    return
                task = self._pool._shared.popleft()
            task()

    def __enter__(self) -> Parts[Item]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            with self._change:
                self._error = self._error or error  # parts that wait are left out
        while True:
            with self._change:
                if not self._open:
                    break
                if not self._pool._shared:
                    self._change.wait(_TICK_SECONDS)
                    continue
                task = self._pool._shared.popleft()
            task()
        if error is None and self._error is not None:
            raise self._error

    def _do(self, call: Callable[[], None]) -> None:
        try:
            if self._error is None:
                call()
        except BaseException as error:  # noqa: BLE001 - raised by the thread that has the item
            with self._change:
                self._error = self._error or error
        finally:
            with self._change:
                self._open -= 1
                self._change.notify_all()
