"""``python -m vision_mlops.notebooks``: execute the notebooks of a project, one after the other."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.errors import MlopsError
from vision_mlops.notebooks.notebook_execution import execute_notebook, find_notebooks


def main(words: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 if a cell failed or something else went wrong."""
    parser = argparse.ArgumentParser(prog="python -m vision_mlops.notebooks", description="Execute notebooks in order.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="execute only these, such as 02_model_training or 02")
    parser.add_argument("--folder", type=Path, default=Path("notebooks"), help="their folder (default: notebooks)")
    parser.add_argument(
        "--write", action="store_true", help="write the outputs into the notebooks themselves, not to outputs/notebooks"
    )
    options = parser.parse_args(words)
    try:
        folder = options.folder.resolve()
        out = folder if options.write else paths.home() / "notebooks"
        for file in find_notebooks(folder, options.names):
            _run(file, out / f"{file.stem}.ipynb")
    except MlopsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _run(file: Path, out: Path) -> None:
    started = time.monotonic()
    print(f"{file.stem}", flush=True)  # noqa: T201
    execute_notebook(file, out, lambda line: print(f"  {time.monotonic() - started:5.1f} s  {line}", flush=True))  # noqa: T201
    print(f"  {time.monotonic() - started:5.1f} s  written: {out}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
