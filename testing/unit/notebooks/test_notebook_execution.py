"""Notebooks are executed in a kernel, in order, and written whole or not at all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.jobs import alive, until

from vision_mlops.core.errors import MlopsError
from vision_mlops.notebooks.__main__ import main
from vision_mlops.notebooks.notebook_execution import find_notebooks, read_notebook

GOOD = """\
# %% [markdown]
# # One
# Text.

# %%
# %load_ext vision_mlops.notebooks
from pathlib import Path

print(Path.cwd().name)

# %%
name = "textile"
# %mlops config check --workload {name}

# %%
1 + 1
"""


def test_notebooks_are_found_by_number_or_name(tmp_path: Path) -> None:
    for name in ("10_last.py", "02_second.py", "01_first.py", "other.py"):
        (tmp_path / name).touch()
    assert [path.stem for path in find_notebooks(tmp_path)] == ["01_first", "02_second", "10_last"]
    assert [path.stem for path in find_notebooks(tmp_path, ["10", "02_second"])] == ["02_second", "10_last"]
    with pytest.raises(MlopsError, match="unknown notebook '03'"):
        find_notebooks(tmp_path, ["03"])


def test_bad_input_is_told_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path)]) == 2
    assert f"error: {tmp_path} has no notebooks" in capsys.readouterr().err


def test_a_notebook_reads_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "01_one.py").write_text(GOOD)
    first, again = (read_notebook(tmp_path / "01_one.py") for _ in range(2))
    assert first == again
    assert [cell["id"] for cell in first.cells] == ["cell-00", "cell-01", "cell-02", "cell-03"]
    assert first.cells[1].source.startswith("%load_ext")


@pytest.mark.slow
def test_outputs_are_written_and_a_failure_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "01_one.py").write_text(GOOD)
    (folder / "02_two.py").write_text("# %%\nprint('before')\n\n# %%\nraise ValueError('no luck')\n")
    assert main(["--folder", str(folder), "--write", "01"]) == 0
    cells = json.loads((folder / "01_one.ipynb").read_text())["cells"]
    assert cells[1]["outputs"][0]["text"] == ["notebooks\n"]
    assert "textile" in cells[2]["outputs"][0]["text"][0]
    assert cells[3]["outputs"][0]["data"]["text/plain"] == ["2"]
    assert cells[3]["metadata"] == {}, "no times"
    assert main(["--folder", str(folder), "--write"]) == 2
    failed = capsys.readouterr().err
    assert "02_two.py: An error occurred" in failed
    assert "no luck" in failed
    assert "\x1b" not in failed
    assert sorted(path.name for path in folder.iterdir()) == ["01_one.ipynb", "01_one.py", "02_two.py"]


@pytest.mark.slow
def test_ctrl_c_ends_the_kernel_and_writes_nothing(tmp_path: Path) -> None:
    folder, note = tmp_path / "notebooks", tmp_path / "kernel"
    folder.mkdir()
    wait = f"import os, pathlib, time\npathlib.Path({str(note)!r}).write_text(str(os.getpid()))\ntime.sleep(300)\n"
    (folder / "01_wait.py").write_text(f"# %%\n{wait}")
    line = [sys.executable, "-m", "vision_mlops.notebooks", "--folder", str(folder), "--write"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: note.exists() and note.read_text())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "DeadKernelError" not in errors
    until(lambda: not alive(int(note.read_text())))
    assert [path.name for path in folder.iterdir()] == ["01_wait.py"]
