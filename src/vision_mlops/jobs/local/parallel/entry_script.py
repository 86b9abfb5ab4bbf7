"""Runs an entry script in a worker process: ``init()``, then ``run(mini_batch)`` for each mini-batch, then ``shutdown()``.

What the script prints goes where the step's output goes.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from vision_mlops.core.errors import MlopsError
from vision_mlops.jobs.local.parallel.partitions import MiniBatch

Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class MiniBatchResult:
    """What ``run`` returned: the number of items, and the items as lines; ``header`` names the columns of a DataFrame."""

    count: int
    text: str
    header: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a call failed; ``unusable`` if the script itself is wrong, so that it would fail in any process."""

    message: str
    unusable: bool = False


class _UnusableError(Exception):
    """Raised if the script lacks what an entry script needs."""


@dataclass
class EntryScript:
    """The script as a module, under its own name, with its folder on the path and its arguments in ``sys.argv``.

    Attributes:
        path: Path of the script.
        arguments: Arguments of the script.
        logging_level: Level of the module logging.
    """

    path: str
    arguments: tuple[str, ...] = ()
    logging_level: str = "INFO"

    def start(self) -> Problem | None:
        """Import the script and call ``init()``."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Write whole lines, even with PYTHONUNBUFFERED: the processes share the output, and a killed one loses no line.
            sys.stdout.reconfigure(line_buffering=True, write_through=False)
        logging.basicConfig(level=self.logging_level, format="%(levelname)s %(name)s: %(message)s")
        loaded = _outcome(self._load, f"{self.path} cannot be imported: ")
        return loaded if isinstance(loaded, Problem) else _outcome(self._init, f"{self.path} failed in init(): ")

    def work(self, task: MiniBatch) -> MiniBatchResult | Problem:
        """Call ``run`` with a mini-batch."""
        return _outcome(partial(self._run, task))

    def close(self) -> Problem | None:
        """Call ``shutdown()`` if the script has it."""
        return _outcome(self._shutdown)

    def _load(self) -> None:
        path = Path(self.path)
        sys.path.insert(0, str(path.parent))
        sys.argv = [self.path, *self.arguments]
        name = path.stem if path.stem not in sys.modules else f"entry_script_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise _UnusableError(f"{path.name} is not a Python file")
        self._module: Any = importlib.util.module_from_spec(spec)
        sys.modules[name] = self._module
        spec.loader.exec_module(self._module)
        missing = [f"{name}()" for name in ("init", "run") if not callable(getattr(self._module, name, None))]
        if missing:
            raise _UnusableError(f"{path.name} has no function {' and no '.join(missing)}")

    def _init(self) -> None:
        self._module.init()  # whatever it returns

    def _shutdown(self) -> None:
        if callable(getattr(self._module, "shutdown", None)):
            self._module.shutdown()

    def _run(self, batch: MiniBatch) -> MiniBatchResult:
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


def _outcome(call: Callable[[], Returned], prefix: str = "") -> Returned | Problem:
    """Return what the call returns, or why it failed."""
    try:
        return call()
    except _UnusableError as error:
        return Problem(str(error), unusable=True)
    except MlopsError as error:
        return Problem(f"{prefix}{error}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the script may raise anything, or call exit()
        sys.stderr.write(traceback.format_exc())  # in one write, or those of several processes mix
        return Problem(prefix + f"{type(error).__name__}: {error}".rstrip(": \n"))
