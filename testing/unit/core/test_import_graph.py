"""What a module can reach, read off the source: a small package with every way of depending on another module."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_mlops.core.import_graph import ImportGraph, files_beside

PACKAGE = {
    "__init__.py": "",
    "__main__.py": "from shop import till\n",
    "till.py": "",
    "top.py": "import shop.plain\n",
    "plain.py": '"""Names shop.never in its docstring."""\n',
    "inside.py": "def f():\n    from shop.deep import leaf\n",
    "deep/__init__.py": "from . import sibling\n",
    "deep/leaf.py": "from ..plain import x\n",
    "deep/sibling.py": "",
    "typed.py": "import typing\nif typing.TYPE_CHECKING:\n    from shop import never\nelse:\n    import shop.plain\n",
    "never.py": "",
    "child.py": 'import subprocess\nsubprocess.run(["python", "-m", "shop.till"])\n',
    "itself.py": 'import sys\nWORDS = [sys.executable, "-m", "shop"]\n',
    "logged.py": 'import logging\nlogging.getLogger("shop")\n',
    "chosen.py": 'import importlib\ndef f(name):\n    importlib.import_module(f"shop.deep.{name}")\n',
    "page.py": 'from pathlib import Path\nPAGE = (Path(__file__).parent / "page.html").read_text()\n',
    "page.html": "<p>",
    "other.html": "<p>",
}


@pytest.fixture
def graph(tmp_path: Path) -> ImportGraph:
    for name, content in PACKAGE.items():
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).write_text(content)
    return ImportGraph(tmp_path / "shop")


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("top", {"plain.py"}),
        ("inside", {"deep/__init__.py", "deep/leaf.py", "deep/sibling.py", "plain.py"}),
        ("deep.leaf", {"deep/__init__.py", "deep/sibling.py", "plain.py"}),
        ("typed", {"plain.py"}),
        ("child", {"till.py"}),
        ("itself", {"__main__.py", "till.py"}),
        ("logged", set()),
        ("chosen", {"deep/__init__.py", "deep/leaf.py", "deep/sibling.py", "plain.py"}),
        ("page", {"page.html"}),
    ],
)
def test_what_a_module_reaches(graph: ImportGraph, module: str, others: set[str]) -> None:
    own = f"{module.replace('.', '/')}.py"
    assert {path.as_posix() for path in graph.reached([f"shop.{module}"])} == {"__init__.py", own, *others}


def test_a_module_that_does_not_exist(graph: ImportGraph) -> None:
    with pytest.raises(KeyError, match=r"shop\.nothing"):
        graph.reached(["shop.nothing"])


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import json\n", set()),
        ("from shop import top\n", {"shop", "shop.top"}),
        ("def f():\n    import shop.deep.leaf\n", {"shop.deep.leaf"}),
        ("# of a shop\n", set()),
        ("print 'shop'\n", None),
    ],
)
def test_what_a_file_outside_of_the_package_imports(
    graph: ImportGraph, tmp_path: Path, source: str, modules: set[str] | None
) -> None:
    file = tmp_path / "script.py"
    file.write_text(source)
    assert graph.imported_by(file) == (set(graph.modules) if modules is None else modules)


def test_files_beside_one_that_it_reaches(tmp_path: Path) -> None:
    for name, source in {
        "mine.py": "import json\nfrom parts import tool\ndef f():\n    import late.deep\nfrom . import nothing\n",
        "parts/tool.py": "from .other import x\n",
        "parts/other.py": "import mine\n",
        "late/__init__.py": "",
        "late/deep.py": "",
        "unused.py": "class",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    found = [path.as_posix() for path in files_beside(tmp_path / "mine.py", tmp_path)]
    assert found == ["late/__init__.py", "late/deep.py", "mine.py", "parts/other.py", "parts/tool.py"]
