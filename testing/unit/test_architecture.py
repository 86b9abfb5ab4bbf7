"""``docs/architecture.md``, the plan of the house, is held against the source, and so is ``docs/from_the_seed.md``."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from testing.support.source_imports import (
    Graph,
    grouped,
    import_graph,
    imported,
    module_files,
    reached,
    transitive_reduction,
)

from vision_mlops.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "vision_mlops"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SEED = (ROOT / "docs" / "from_the_seed.md").read_text(encoding="utf-8")
MOST_MODULES = 21
MODULES = {
    name: file for package in (PACKAGE, SOURCE / "azureml_emulator") for name, file in module_files(package).items()
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Which module of the package imports which."""
    return import_graph(PACKAGE)


@pytest.fixture(scope="module")
def rooms(graph: Graph) -> Graph:
    """Which room imports which; what lies above all rooms (``__init__``, ``__main__``) is in none."""
    names = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    parts = {module: module.split(".") for module in graph}
    return grouped(graph, {module: words[1] for module, words in parts.items() if len(words) > 1 and words[1] in names})


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table whose first column has a heading."""
    found = re.search(rf"^\| {heading} \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"no table of {heading}"
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in found[1].splitlines()]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def arrows(page: str) -> set[tuple[str, str]]:
    """The arrows of the diagram in a page, from and to; ``a --> b & c`` are two."""
    diagrams = re.findall(r"```mermaid\nflowchart TD\n(.*?)```", page, re.DOTALL)
    assert len(diagrams) == 1
    found: list[tuple[str, str]] = []
    for line in diagrams[0].splitlines():
        before, arrow, after = line.strip().partition(" --> ")
        assert arrow, f"not an arrow: {line}"
        found += [(left, right) for left in before.split(" & ") for right in after.split(" & ")]
    assert len(found) == len(set(found)), "an arrow is drawn twice"
    return set(found)


def test_the_diagram_is_the_import_graph(rooms: Graph) -> None:
    reduction = transitive_reduction(rooms)
    diagram = "\n".join(f"    {room} --> {' & '.join(sorted(needed))}" for room, needed in reduction.items() if needed)
    expected = {(room, other) for room, needed in reduction.items() for other in needed}
    drawn = arrows(PAGE)
    message = f"not drawn: {sorted(expected - drawn)}, drawn in vain: {sorted(drawn - expected)}\nas it is:\n{diagram}"
    assert drawn == expected, message


def test_each_import_between_rooms_follows_from_arrows(rooms: Graph) -> None:
    drawn: Graph = defaultdict(set)
    for left, right in arrows(PAGE):
        assert right in rooms[left], f"{left} does not import {right}"
        drawn[left].add(right)
    for room, needed in rooms.items():
        assert needed <= reached(drawn, room), room


def test_each_room_is_described_in_the_order_of_the_floors() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    floors = next(each for each in contracts if each["type"] == "layers" and each["containers"] == ["vision_mlops"])
    described = rows(PAGE, "Room")
    assert [quoted(name) for name, *_ in described] == [[layer] for layer in floors["layers"]]
    assert {file.parent.name for file in PACKAGE.glob("*/__init__.py")} == set(floors["layers"])
    assert all(len(purpose) > 20 for _, purpose, *_ in described)


def test_each_folder_in_a_room_is_named() -> None:
    folders = {file.parent.relative_to(PACKAGE).as_posix() for file in PACKAGE.glob("*/*/__init__.py")}
    inside = {file.parent.relative_to(PACKAGE).as_posix() for file in PACKAGE.glob("jobs/*/*/__init__.py")}
    assert folders | inside <= set(quoted(PAGE))


def missing_paths(text: str, folders: tuple[Path, ...]) -> list[str]:
    """Paths in code quotes that are in none of some folders; words in capitals stand for any name."""
    found = []
    for word in quoted(text):
        if " " in word or not ("/" in word or re.search(r"\.(py|md|yml|toml|html)$", word)):
            continue
        pattern = re.sub(r"[A-Z]{3,}(?!\.md)", "*", word)
        if not any(next(folder.glob(pattern), None) for folder in folders):
            found.append(word)
    return found


def test_paths_that_are_named_exist() -> None:
    assert len(quoted(PAGE)) > 80
    named = PAGE[: PAGE.index("A folder has at most")]
    assert not missing_paths(named, (ROOT, PACKAGE))
    assert missing_paths("`endpoints/nowhere/target.py` `endpoints/NAME/nothing.py` `nowhere.md`", (ROOT, PACKAGE)) == [
        "endpoints/nowhere/target.py",
        "endpoints/NAME/nothing.py",
        "nowhere.md",
    ]


def test_a_table_says_where_each_folder_of_the_template_is() -> None:
    table = rows(SEED, "There")
    assert len(table) > 12
    for there, here in table:
        for place in quoted(here):
            assert (ROOT / place).exists() or " " in place or place == ".env", place
        for place in quoted(there.split("(")[0]):
            if here.startswith("the same"):
                assert (ROOT / place).exists(), f"the table says that {place} is here"
            if here.startswith("not there yet"):
                assert not (ROOT / place).exists(), f"the table says that {place} is not there yet"


def test_heavy_libraries_are_imported_where_the_page_says() -> None:
    importers: dict[str, set[Path]] = defaultdict(set)
    for file in module_files(PACKAGE).values():
        for name in imported(file, PACKAGE):
            importers[name.split(".")[0]].add(file)
    for libraries, places in rows(PAGE, "Library"):
        allowed = [PACKAGE / place for place in quoted(places)]
        for library in quoted(libraries):
            elsewhere = [file for file in importers[library] if not any(map(file.is_relative_to, allowed))]
            assert not elsewhere, library
        found = set().union(*(importers[library] for library in quoted(libraries)))
        assert all(any(file.is_relative_to(folder) for file in found) for folder in allowed), libraries


def test_no_module_imports_itself_by_way_of_others(graph: Graph) -> None:
    assert "vision_mlops.registry.azureml.azureml_registry" in graph["vision_mlops.registry.registry_address"]
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    commands = {f"vision_mlops.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}  # loaded by name
    assert commands < graph.keys()
    assert order[-1] in {"vision_mlops.__main__", *commands}


def test_jobs_know_no_workload(graph: Graph) -> None:
    words = ("vision_mlops.config", "vision_mlops.config.workload", "vision_mlops.config.workload_files")
    assert graph["vision_mlops.config"] <= set(words)
    jobs = {name: needed for name, needed in graph.items() if name.startswith("vision_mlops.jobs.")}
    assert any("vision_mlops.config.azure_settings" in needed for needed in jobs.values())
    assert not {name for name, needed in jobs.items() if needed & set(words)}


def test_no_folder_is_too_full() -> None:
    sizes = Counter(file.parent for file in SOURCE.rglob("*.py"))
    assert not {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES}
    assert f"at most {MOST_MODULES} modules" in PAGE


def test_a_file_name_stands_twice_at_most() -> None:
    names = Counter(file.name for file in SOURCE.rglob("*.py"))
    often = {name for name, times in names.items() if times > 2}
    assert often <= {"__init__.py", "__main__.py", "target.py"}


def test_a_public_class_name_stands_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(file.relative_to(SOURCE).as_posix())
    assert len(places) > 100
    assert not {name: files for name, files in places.items() if len(files) > 1}


def programs() -> Iterator[tuple[str, str]]:
    """Python that recipes of make and of images run with ``-c``."""
    for file in (ROOT / "Makefile", *(ROOT / "environments").rglob("*Dockerfile")):
        text = file.read_text(encoding="utf-8").replace("\\\n", "")
        for single, double in re.findall(r"""python3? -c (?:'([^'\n]+)'|"([^"\n]+)")""", text):
            yield file.name, single or double


def test_recipes_import_what_exists() -> None:
    modules = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}
    checked = 0
    for recipe, program in programs():
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.Import):
                ours = [alias.name for alias in node.names if alias.name.startswith("vision_mlops")]
                checked += len(ours)
                assert set(ours) <= modules.keys(), recipe
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("vision_mlops"):
                checked += 1
                for alias in node.names:
                    assert f"{node.module}.{alias.name}" in modules, f"{recipe}: {node.module}.{alias.name}"
    assert checked >= 4
