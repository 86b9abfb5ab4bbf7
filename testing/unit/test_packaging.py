"""What is built and started by name: files that the package reads, modules named in text, and packages of the extras."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vision_mlops
from vision_mlops.cli.main import main
from vision_mlops.core.errors import MissingExtraError, missing_extra, require

ROOT = Path(vision_mlops.__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE_DATA: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
ROOTS = {"vision_mlops": "src", "azureml_emulator": "src", "benchmarks": "", "testing": ""}
_TEXTS = (".jinja", ".md", ".mk", ".py", ".sh", ".txt", ".yaml", ".yml")
_MODULE = rf"(?:{'|'.join(ROOTS)})(?:\.\w+)*"
_STARTED = re.compile(rf"""-m["']?,?\s+["']?({_MODULE})""")
_IMPORTED = re.compile(rf"\bimport\s+((?:[\w.]+,\s*(?:\\\s*)?)*{_MODULE}(?:,\s*(?:\\\s*)?[\w.]+)*)")
_IMPORTED_FROM = re.compile(rf"\bfrom\s+({_MODULE})\s+import\s+(\w+(?:,\s*\w+)*)")


def texts() -> Iterator[Path]:
    """Files of the repository that may start or import a module of ours."""
    yield from (ROOT / name for name in ("Makefile", "README.md", ".ci/run", "pyproject.toml"))
    for folder in (
        "src",
        "testing",
        "benchmarks",
        "docs",
        "environments",
        "infrastructure",
        "requirements",
        "template",
    ):
        for path in sorted((ROOT / folder).rglob("*")):
            known = path.suffix in (
                ".py",
                ".md",
                ".mk",
                ".yml",
                ".yaml",
                ".sh",
                ".txt",
                ".jinja",
            ) or path.name.endswith("Dockerfile")
            if known and path != Path(__file__):  # which names some that are lost
                yield path


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or a word in one: what is imported in code, the type checker looks at."""
    first, *rest = name.split(".")
    place = ROOT / ROOTS[first] / first
    for position, part in enumerate(rest):
        if (place / part).is_dir() or (place / f"{part}.py").is_file():
            place /= part
            continue
        source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        defined = source.read_text(encoding="utf-8") if source.is_file() else ""
        return position == len(rest) - 1 and re.search(rf"\b{part}\b", defined) is not None
    return True


def named(text: str) -> Iterator[str]:
    yield from (match[1] for match in _STARTED.finditer(text))
    for match in _IMPORTED.finditer(text):
        names = re.split(r"[,\s\\]+", match[1])
        yield from (name for name in names if name.partition(".")[0] in ROOTS)
    for match in _IMPORTED_FROM.finditer(text):
        yield from (f"{match[1]}.{name}" for name in re.split(r",\s*", match[2]))


def test_modules_that_a_text_names_exist() -> None:
    """Also in Dockerfiles, make targets, documents, and code or commands in a string, which no type checker reads."""
    found = {(path, name) for path in texts() for name in named(path.read_text(encoding="utf-8"))}
    assert {path.name for path, _ in found} >= {"Makefile", "Dockerfile", "local_endpoint.py", "test_training.py"}
    missing = [f"{path.relative_to(ROOT)}: {name}" for path, name in sorted(found) if not exists(name)]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[sys.executable, "-m", "vision_mlops.nowhere", x]', ["vision_mlops.nowhere"]),
        ("$(BIN)/python -m benchmarks.nowhere --flipped", ["benchmarks.nowhere"]),
        (
            '-c "import os, vision_mlops.lost_a; \\\nimport vision_mlops.lost_b, \\\n  x"',
            ["vision_mlops.lost_a", "vision_mlops.lost_b"],
        ),
        (
            "-c 'from vision_mlops.endpoints import lost_a, lost_b; lost_a.c()'",
            ["vision_mlops.endpoints.lost_a", "vision_mlops.endpoints.lost_b"],
        ),
    ],
)
def test_names_in_a_text_are_found(text: str, names: list[str]) -> None:
    assert list(named(text)) == names
    assert not any(exists(name) for name in names)


@pytest.mark.parametrize("package", PACKAGE_DATA)
def test_files_that_are_no_code_are_package_data(package: str) -> None:
    folder = ROOT / "src" / package
    files = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }
    matched = {
        glob: {path.relative_to(folder).as_posix() for path in folder.glob(glob)} for glob in PACKAGE_DATA[package]
    }
    assert [glob for glob, found in matched.items() if not found] == [], "a pattern matches nothing"
    assert files - set().union(*matched.values()) == set(), "files are left out of the wheel"


def test_all_code_is_in_a_package_that_is_built() -> None:
    """Also what lies in a folder without ``__init__.py``, such as an entry script: setuptools finds it by default."""
    assert PROJECT["tool"]["setuptools"]["packages"]["find"] == {"where": ["src"]}
    code = {path.relative_to(ROOT / "src").parts for path in (ROOT / "src").rglob("*.py")}
    assert {parts[0] for parts in code} == set(PACKAGE_DATA)
    assert [folder for parts in code for folder in parts[:-1] if not folder.isidentifier()] == []


def imported() -> set[str]:
    """Packages of others that the package imports, anywhere."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "src" / "vision_mlops").rglob("*.py"))
    nodes = list(chain.from_iterable(map(ast.walk, trees)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"vision_mlops"}


def test_each_import_has_a_package_that_is_declared() -> None:
    base = {"PIL": "pillow", "yaml": "pyyaml", "cykooz_resizer": "cykooz-resizer"}
    required = {re.split(r"[^\w-]", text)[0] for text in PROJECT["project"]["dependencies"]}
    undeclared = {name for name in imported() if base.get(name, name) not in required and missing_extra(name) is None}
    # They come with requests, with others, and with the environment of Azure ML's inference server; `mlops doctor` compares
    # versions where the last one is there.
    assert undeclared == {"certifi", "azureml_inference_server_http", "packaging"}


def without(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command line call what a module is missing for."""

    def command() -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("vision_mlops.cli.train.train", command)
    monkeypatch.setattr(sys, "argv", ["mlops", "train"])


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("mlflow.exceptions", "mlflow", "train"),
        ("sklearn", "scikit-learn", "train"),
        ("prometheus_client", "prometheus-client", "serve"),
        ("azure.ai.ml", "azure-ai-ml", "azure"),
        ("azure.mgmt.web.models", "azure-mgmt-web", "azure"),
        ("azure", "azure-ai-ml", "azure"),
        ("dotenv.parser", "python-dotenv", "azure"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(module, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = f"error: this command needs the package {package!r}, which is not installed\n"
    assert capsys.readouterr().err == f"{said}  -> pip install 'vision-mlops[{extra}]'\n"


@pytest.mark.parametrize("module", ["vision_mlops.nowhere", "nowhere"])
def test_another_missing_module_is_a_fault_of_ours(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(module, monkeypatch)
    with pytest.raises(ModuleNotFoundError):
        main()


def test_what_is_required_is_installed_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pydantic", "optuna")
    monkeypatch.setitem(sys.modules, "optuna", ModuleType("optuna"))  # loaded, however it came
    require("optuna")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match="'optuna'") as raised:
        require("pydantic", "optuna")
    assert raised.value.hint == "pip install 'vision-mlops[train]'"
    with pytest.raises(MissingExtraError, match="'nowhere'") as raised:  # of no extra
        require("nowhere")
    assert raised.value.hint == "pip install nowhere"
