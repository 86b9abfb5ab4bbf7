"""What the notebooks need beside the package itself. ``%load_ext vision_mlops.notebooks`` adds the magic ``%mlops``."""

from __future__ import annotations

import shlex
import warnings
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython: ``%mlops data check outputs/data/textile`` runs the command, and a failure ends the cell."""
    from vision_mlops.notebooks.notebook_commands import run_command

    def line(text: str) -> None:
        run_command(*shlex.split(text))

    shell.register_magic_function(line, "line", "mlops")
    # Of tqdm, which MLflow imports: it asks for a package for bars that nobody draws here.
    warnings.filterwarnings("ignore", message="IProgress not found")
