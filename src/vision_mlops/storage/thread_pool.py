"""Threads that work through items; the parts of a large item go to threads that have nothing else to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
_TICK_SECONDS = 0.1
_MOST_WAITING = 8


class ThreadPool(Generic[Item]):
    """Works on a number of items and parts at once.

    Args:
        size: Number of threads that work at once.
        stop: Ends what the threads wait for, such as responses; called when one fails or the caller is interrupted.
    """

    def __init__(self, size: int, stop: Callable[[], None]) -> None:
        self._size = size
        self._stop = stop
        self._turns = threading.Semaphore(size)
        self._room = threading.Semaphore(size + _MOST_WAITING)  # parts are in memory from here on
        self._parts: ThreadPoolExecutor

    def run(self, items: Iterable[Item], work: Callable[[Item], None], tick: Callable[[], None] = lambda: None) -> None:
        """Do the work for each item.

        Args:
            items: Taken one after the other.
            work: Called in the threads. An exception that it raises ends the run.
            tick: Called in this thread several times a second.

        Raises:
            BaseException: the first one that ``work`` raised, or that was raised in this thread. No thread is left then.
        """
        left, lock = iter(items), threading.Lock()

        def serve() -> None:
            while True:
                with lock:
                    try:
                        item = next(left)
                    except StopIteration:
                        return
                with self._turns:
                    work(item)

        with ThreadPoolExecutor(self._size, "item") as pool, ThreadPoolExecutor(self._size, "part") as self._parts:
            running = {pool.submit(serve) for _ in range(self._size)}
            try:
                while running:
                    done, running = wait(running, _TICK_SECONDS, FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    tick()
            except BaseException:
                left = iter(())
                self._stop()  # from here on, parts that are left fail at once
                raise

    @contextmanager
    def parts(self) -> Iterator[Parts]:
        """Hand out the parts of one large item, in the thread that works on it.

        At the end of the context all parts are done, or one has failed. The thread itself only prepares them, so its
        turn is free in the meantime.
        """
        parts = Parts(self._parts, self._turns, self._room)
        self._turns.release()
        try:
            yield parts
        except BaseException as error:
            parts.error = parts.error or error  # parts that wait are skipped
            raise
        finally:
            wait(parts.begun)
            self._turns.acquire()
        if parts.error is not None:
            raise parts.error


class Parts:
    """Parts of one large item; see :meth:`ThreadPool.parts`."""

    def __init__(self, pool: ThreadPoolExecutor, turns: threading.Semaphore, room: threading.Semaphore) -> None:
        self._pool, self._turns, self._room = pool, turns, room
        self.begun: list[Future[None]] = []
        self.error: BaseException | None = None

    def add(self, call: Callable[[], None]) -> None:
        """Let a thread do a part; wait first if too many are waiting already.

        Raises:
            BaseException: what an earlier part raised.
        """
        if self.error is not None:
            raise self.error
        self._room.acquire()
        self.begun.append(self._pool.submit(self._do, call))

    def _do(self, call: Callable[[], None]) -> None:
        try:
            with self._turns:
                if self.error is None:
                    call()
        except BaseException as error:  # noqa: BLE001 - raised by the thread that has the item
            self.error = self.error or error
        finally:
            self._room.release()
