"""What the README of the emulator shows, works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import azureml_emulator

PACKAGE = Path(azureml_emulator.__file__).parent
TEXT = (PACKAGE / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_starts_a_cloud(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "example.py"
    file.write_text(example, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "['cpu-cluster']"


def test_the_files_and_folders_that_it_names_are_there() -> None:
    files = {name for name in re.findall(r"`([\w/]+\.py)`", TEXT) if not name.startswith(("testing/", "examples/"))}
    assert "process_commands.py" in files
    assert all((PACKAGE / name).is_file() for name in files), files
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(re.findall(r"\| `(\w+)` \|$", TEXT, re.MULTILINE)) == folders - {"rest"}  # which all others stand on
