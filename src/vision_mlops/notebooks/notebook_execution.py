"""Notebooks are executed here from top to bottom, as Jupyter does it, and written with their outputs.

Each notebook has two files: ``NAME.py``, which is read and reviewed, and ``NAME.ipynb``, which also has the outputs.
"""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import MlopsError, require
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import nearest

CELL_SECONDS = 3600
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


class NotebookError(MlopsError):
    """A cell of a notebook has failed."""


def find_notebooks(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Find the ``.py`` files of notebooks, in their order.

    Args:
        folder: Where they are.
        names: Only these, such as ``02_model_training`` or ``02``.

    Raises:
        MlopsError: there are none, or none of such a name.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.py"))
    if not found:
        problem = "has no notebooks" if folder.exists() else "does not exist"
        raise MlopsError(f"{folder} {problem}", "run it in a project, or give the folder with --folder")
    known = [path.stem for path in found]
    for name in names:
        if not any(_is_called(stem, name) for stem in known):
            raise MlopsError(f"unknown notebook {name!r} in {folder}", nearest(name, known))
    return [path for path in found if not names or any(_is_called(path.stem, name) for name in names)]


def _is_called(stem: str, name: str) -> bool:
    return name in (stem, stem.partition("_")[0])


def read_notebook(file: Path) -> Any:
    """Read the notebook of a ``.py`` file, without outputs, as an ``nbformat`` notebook.

    Raises:
        MissingExtraError: jupytext is not installed.
    """
    require("jupytext")
    import jupytext

    notebook = jupytext.read(file)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"  # the same each time, so that a diff has only what was changed
    notebook.metadata.clear()
    notebook.metadata.update(_KERNEL)
    return notebook


def execute_notebook(file: Path, out: Path, say: Callable[[str], None]) -> None:
    """Run a notebook in a new kernel, in its own folder, and write it with its outputs.

    Args:
        file: Its ``.py`` file.
        out: The ``.ipynb`` file to write; where a cell fails, nothing is written.
        say: Told the first line of each cell that begins.

    Raises:
        NotebookError: a cell failed, or the kernel has died.
        MissingExtraError: the packages are not installed.
    """
    require("nbclient", "nbformat", "traitlets")
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from traitlets.config import Config

    notebook = read_notebook(file)
    # Sockets, which nobody else can reach, in the temporary folder, as their paths must be short.
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(file.parent)}},
            on_notebook_start=lambda notebook: _take_signals_back(),
            on_cell_execute=lambda cell, cell_index: _tell(cell, say),
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/port"}}),
        )
        try:
            client.execute()
        except (CellExecutionError, DeadKernelError) as error:
            reason = _COLOURS.sub("", str(error)).strip()
            raise NotebookError(f"{file}: {reason}", "open it in Jupyter and run it up to that cell") from error
    notebook.metadata["language_info"] = _KERNEL["language_info"]  # without versions of this machine
    nbformat.validate(notebook)
    atomic_write(out, nbformat.writes(notebook) + "\n")


def _take_signals_back() -> None:
    """Let Ctrl-C interrupt the execution: nbclient's own handler stops the kernel, and fails in what goes on without it.

    The kernel ends with this process all the same, by nbclient's function for that or because it looks after its parent.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


def _tell(cell: Any, say: Callable[[str], None]) -> None:
    if cell.cell_type == "code":
        say(cell.source.partition("\n")[0])
