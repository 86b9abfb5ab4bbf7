"""The notebooks: both files of each agree, the committed outputs are whole, and all run with a tiny workload."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testing.support.quick_training import QUICK, write_colours

from vision_mlops.notebooks.notebook_execution import find_notebooks, read_notebook

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
FILES = find_notebooks(FOLDER)
LARGEST = 600_000
OF_A_MACHINE = re.compile(r"(?<![\w.])/(?:root|home|work|Users|tmp)/|\x1b")
PICTURES = {"image/svg+xml", "image/png"}
ENVIRONMENT = """\
name: vision-mlops-train
image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest
conda_file: conda/train.yml
"""


def content(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return found


def shown(outputs: list[dict[str, Any]]) -> Iterator[str]:
    """All lines of text in outputs."""
    for output in outputs:
        for text in (output.get("text", []), *output.get("data", {}).values()):
            yield from text if isinstance(text, list) else [str(text)]


def test_the_readme_lists_them_all() -> None:
    linked = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", (FOLDER / "README.md").read_text())
    assert linked == [file.stem for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_both_files_of_a_notebook_agree(file: Path) -> None:
    written = [(cell["cell_type"], "".join(cell["source"])) for cell in content(file)["cells"]]
    read = [(cell.cell_type, cell.source) for cell in read_notebook(file).cells]
    assert written == read, "make notebooks WRITE=1, or .venv/bin/jupytext --sync notebooks/*.py"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_committed_outputs_are_whole_and_of_no_machine(file: Path) -> None:
    cells = [cell for cell in content(file)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [cell["metadata"] for cell in cells if cell["metadata"]]
    text = file.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert not [found for line in shown(outputs) if (found := OF_A_MACHINE.search(line))]
    assert len(text) < LARGEST
    if not file.stem.startswith("00_"):
        assert any(PICTURES & set(output.get("data", {})) for output in outputs), "no picture"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_run_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notebooks", "environments/conda"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.ipynb"))
    (tmp_path / "environments" / "train.yml").write_text(ENVIRONMENT)
    write_colours(tmp_path / "photos")
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "colours.yml").write_text("name: colours\ndata: {source: folder, path: photos}\n")
    monkeypatch.delenv("MLOPS_HOME")
    for item in QUICK:
        key, _, value = item.partition("=")
        monkeypatch.setenv(f"MLOPS_{key.upper().replace('.', '__')}", value)
    line = [sys.executable, "-m", "vision_mlops.notebooks"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    written = sorted(path.stem for path in (tmp_path / "outputs" / "notebooks").glob("*.ipynb"))
    assert written == [file.stem for file in FILES]
    assert not list((tmp_path / "notebooks").glob("*.ipynb")), "the notebooks themselves were changed"
    assert not (tmp_path / "outputs" / "emulator" / "emulator.json").exists(), "an emulator is left"
    served = json.loads((tmp_path / "outputs" / "notebooks" / "colours" / "versions.json").read_text())
    assert set(served) == {"first", "second", "first_on_azure", "second_on_azure"}
