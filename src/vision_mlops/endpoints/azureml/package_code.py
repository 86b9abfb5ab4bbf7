"""The code that Azure ML's inference server runs: this package, as it is installed here, with an entry script beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vision_mlops

ENTRY_SCRIPT = "score.py"
_SCRIPT = '''\
"""Finds the package beside it, and is its entry script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vision_mlops.serving.score import init, run  # noqa: E402, F401
'''


@contextmanager
def package_code() -> Iterator[Path]:
    """A folder with nothing but the package and :data:`ENTRY_SCRIPT`; removed at the end."""
    package = Path(vision_mlops.__file__).parent
    with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
        folder = Path(temporary) / "code"
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        (folder / ENTRY_SCRIPT).write_text(_SCRIPT, encoding="utf-8")
        yield folder
