"""`make kernel`: Jupyter gets a kernel that is this Python, once, where it was told to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import vision_mlops

ROOT = Path(vision_mlops.__file__).parents[2]


def make_kernel(*words: str) -> str:
    venv = Path(sys.prefix)
    # Nothing is installed here, whatever the dates of the requirements.
    command = ["make", "--no-print-directory", "-o", str(venv / ".installed"), "kernel", f"VENV={venv}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_notebook_runs_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    kernels = tmp_path / "jupyter_data_dir" / "kernels"
    make_kernel()
    make_kernel()
    assert [path.name for path in kernels.iterdir()] == ["vision-mlops"]
    spec = json.loads((kernels / "vision-mlops" / "kernel.json").read_text())
    assert spec["display_name"].startswith("vision-mlops (")
    assert Path(spec["argv"][0]).parent.samefile(Path(sys.executable).parent)
    cell: dict[str, object] = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None,
            "source": "import sys, vision_mlops; print(sys.prefix)"}  # fmt: skip
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    notebook: Any = nbformat.from_dict(content)
    NotebookClient(notebook, timeout=60, kernel_name="vision-mlops").execute()
    assert notebook.cells[0].outputs[0]["text"] == f"{sys.prefix}\n"


def test_it_goes_to_another_jupyter(tmp_path: Path) -> None:
    make_kernel(f"PREFIX={tmp_path}")
    assert (tmp_path / "share" / "jupyter" / "kernels" / "vision-mlops" / "kernel.json").is_file()
