"""The emulator's modules form no circle, and know neither the tool that they start nor the tests."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from testing.support.source_imports import import_graph, imported, module_name

import azureml_emulator

PACKAGE = Path(azureml_emulator.__file__).parent
NAME = PACKAGE.name


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = import_graph(PACKAGE)
    assert f"{NAME}.jobs.emulated_jobs" in graph[f"{NAME}.emulated_cloud"]
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index(f"{NAME}.loopback") > order.index(f"{NAME}.emulated_cloud")
    assert order.index(f"{NAME}.__main__") > order.index(f"{NAME}.running_emulator")


def test_no_module_imports_the_tool_or_the_tests() -> None:
    strange = {
        (module_name(file, PACKAGE), name)
        for file in PACKAGE.rglob("*.py")
        for name in imported(file, PACKAGE)
        if name.split(".")[0] in ("vision_mlops", "testing")
    }
    assert not strange


def test_the_tool_is_named_in_one_place_only() -> None:
    words = ("vision_mlops", "MLOPS_")
    files = {
        file.name for file in PACKAGE.rglob("*.py") if any(word in file.read_text(encoding="utf-8") for word in words)
    }
    assert files == {"process_commands.py"}


@pytest.mark.parametrize(
    "line",
    [
        "from circle.second import B",
        "from circle import second",
        "from . import second",
        "import circle.second",
        "def late():\n    from circle.second import B",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .second import B",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: Path, line: str) -> None:
    package = tmp_path / "circle"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text(f"{line}\nclass A: ...\n")
    (package / "second.py").write_text("from circle.first import A\nclass B: ...\n")
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(package)).prepare()
