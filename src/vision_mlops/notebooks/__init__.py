"""What the notebooks need beside the package itself. ``%load_ext vision_mlops.notebooks`` adds the magic ``%mlops``."""

from __future__ import annotations

import shlex
import warnings
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython: ``%mlops data check outputs/data/textile`` runs the command, and a failure ends the cell."""
    from IPython.core.magic import no_var_expand

    from vision_mlops.notebooks.notebook_commands import run_command

    @no_var_expand
    def line(text: str) -> None:
        # `{NAME}` after the split, so that a path with a space stays one word.
        run_command(*(shell.var_expand(word) for word in shlex.split(text)))

    shell.register_magic_function(line, "line", "mlops")
    # Of tqdm, which MLflow imports: it asks for a package for progress bars, which are not shown here.
    warnings.filterwarnings("ignore", message="IProgress not found")
