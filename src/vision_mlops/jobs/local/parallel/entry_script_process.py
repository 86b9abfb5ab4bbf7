"""The process that runs an entry script: ``init()`` once, ``run(mini_batch)`` for each mini-batch it is sent.

It talks with the process that started it over a pipe: a :class:`Ready`, :class:`MiniBatchResult` or :class:`Problem` answers
each thing that it is asked. What the script prints goes where the step's output goes.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, Literal

from vision_mlops.core.errors import MlopsError
from vision_mlops.jobs.local.parallel.partitions import MiniBatch

Stage = Literal["import", "init", "run", "shutdown"]


@dataclass(frozen=True, slots=True)
class Script:
    """An entry script with what it is started with."""

    path: str
    arguments: tuple[str, ...] = ()
    logging_level: str = "INFO"


@dataclass(frozen=True, slots=True)
class Ready:
    """``init()`` has ended, or, asked to end, ``shutdown()``."""


@dataclass(frozen=True, slots=True)
class MiniBatchResult:
    """What ``run`` returned: how many items, as lines; ``header`` names the columns of a DataFrame."""

    count: int
    text: str
    header: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a call failed; ``unusable`` where the script itself is wrong, so that no process could do better."""

    stage: Stage
    message: str
    unusable: bool = False


Answer = Ready | MiniBatchResult | Problem


class _UnusableError(Exception):
    """The script lacks what an entry script needs."""


def serve(pipe: connection.Connection, script: Script) -> None:
    """Load the script, answer mini-batches until None comes, then call ``shutdown()``. Runs in a process of its own."""
    _live_as_long_as_parent()
    # Ctrl-C reaches the whole process group: it is the parent that ends its workers. A function, not SIG_IGN, which
    # programs that the script starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Whole lines, also with PYTHONUNBUFFERED: the processes share the output. One that is killed loses none.
        sys.stdout.reconfigure(line_buffering=True, write_through=False)
    logging.basicConfig(level=script.logging_level, format="%(levelname)s %(name)s: %(message)s")
    with suppress(EOFError, BrokenPipeError):  # the parent has gone
        _answer_all(pipe, _Entry(script))


def _answer_all(pipe: connection.Connection, entry: _Entry) -> None:
    answer = _outcome("import", entry.load)
    if isinstance(answer, Ready):
        answer = _outcome("init", entry.init)
    pipe.send(answer)
    if isinstance(answer, Ready):
        while (batch := pipe.recv()) is not None:
            pipe.send(_outcome("run", partial(entry.run, batch)))
        pipe.send(_outcome("shutdown", entry.shutdown))


def _outcome(stage: Stage, call: Callable[[], Answer]) -> Answer:
    """What the call returns, or why it failed."""
    try:
        return call()
    except _UnusableError as error:
        return Problem(stage, str(error), unusable=True)
    except MlopsError as error:
        return Problem(stage, str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the script may raise anything, or call exit()
        sys.stderr.write(traceback.format_exc())  # at once, or those of several processes mix
        return Problem(stage, f"{type(error).__name__}: {error}".rstrip(": \n"))


def _live_as_long_as_parent() -> None:
    """End this process when its parent has ended without a word, for example killed."""
    parent = parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


class _Entry:
    """The script as a module, under its own name, with its folder on the path and its arguments in ``sys.argv``."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._module: Any = None

    def load(self) -> Ready:
        path = Path(self._script.path)
        sys.path.insert(0, str(path.parent))
        sys.argv = [self._script.path, *self._script.arguments]
        name = path.stem if path.stem not in sys.modules else f"entry_script_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise _UnusableError(f"{path.name} is no Python file")
        self._module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        missing = [f"{name}()" for name in ("init", "run") if not callable(getattr(self._module, name, None))]
        if missing:
            raise _UnusableError(f"{path.name} has no function {' and no '.join(missing)}")
        return Ready()

    def init(self) -> Ready:
        self._module.init()
        return Ready()

    def run(self, batch: MiniBatch) -> MiniBatchResult:
        returned = self._module.run(batch.load())
        # Only a script that imported pandas can return a DataFrame.
        pandas: Any = sys.modules.get("pandas")
        if pandas is not None and isinstance(returned, pandas.DataFrame):
            # Separated by spaces and without a header, as Azure ML writes it.
            text = returned.to_csv(sep=" ", header=False, index=False, lineterminator="\n")
            return MiniBatchResult(
                len(returned), text, returned.head(0).to_csv(sep=" ", index=False, lineterminator="\n")
            )
        if not isinstance(returned, list | tuple):
            raise TypeError(f"run() returned {type(returned).__name__}, not a list, tuple or DataFrame")
        return MiniBatchResult(len(returned), "".join(f"{item}\n" for item in returned))

    def shutdown(self) -> Ready:
        if callable(getattr(self._module, "shutdown", None)):
            self._module.shutdown()
        return Ready()
