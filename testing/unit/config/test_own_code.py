"""Own code of a project: what is found, what is imported, and what is said of what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vision_mlops.config import load_workload
from vision_mlops.config.own_code import (
    CodeReference,
    OwnFunction,
    load,
    references,
    source_file,
    source_files,
    source_hashes,
)
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.hashing import file_hash

FILES = {
    "my_code/__init__.py": "",
    "my_code/images.py": "from my_code.shared import factor\nTABLE = 'table.txt'\n\n\n"
    "def double(images):\n    return factor * images\n\n\ndef breaks(images):\n    return images.nothing\n",
    "my_code/shared.py": "factor = 2\n",
    "my_code/table.txt": "1",
    "my_code/unused.py": "class",
    "flat.py": "if True:\n    from my_code.images import double as twice\nclass Net: ...\n",
    "broken.py": "ok = 1\ndef f(:\n",
    "lacking.py": "import no_such_package\n\n\ndef f(images): ...\n",
    "failing.py": "def f(images): ...\n\n\nraise RuntimeError('no camera')\n",
    "json.py": "def f(images): ...\n",
    "numpy/__init__.py": "def f(images): ...\n",
    "starred.py": "from os.path import *\n",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder is that of a project, whose modules are forgotten afterwards."""
    root = tmp_path / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield root
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {each.partition("/")[0].removesuffix(".py") for each in FILES}:
            del sys.modules[name]


def test_a_function_is_found_with_the_files_that_it_needs(project: Path) -> None:
    reference = CodeReference("my_code.images:double", "model.transform")
    needed = ["my_code/__init__.py", "my_code/images.py", "my_code/shared.py", "my_code/table.txt"]
    assert [path.as_posix() for path in source_files(reference)] == needed
    assert source_hashes([reference]) == {name: file_hash(project / name) for name in needed}
    assert "my_code" not in sys.modules, "nothing is imported to find files"
    assert OwnFunction(reference, "images")(4) == 8
    assert load(CodeReference("flat:twice"))(1) == 2


def test_an_installed_module_needs_no_files() -> None:
    reference = CodeReference("os.path:join")
    assert source_files(reference) == []
    assert load(reference)("a", "b") == "a/b"
    assert list(source_hashes([reference])) == ["os.path (installed)"]


def test_what_is_only_known_at_run_time_is_left_to_the_import() -> None:
    assert source_file(CodeReference("starred:join")) == Path.cwd() / "starred.py"
    with pytest.raises(ConfigError, match=r"starred.py has no 'jion'\n  -> did you mean 'join'"):
        load(CodeReference("starred:jion"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_cod.images:double", r"the module 'my_cod' is neither in /.*/project nor installed"),
        ("my_code.image:double", r"/.*/project has no my_code/image.py"),
        ("my_code.images:duoble", r"my_code/images.py has no 'duoble'\n  -> did you mean 'double'\?"),
        ("my_code.images:zzz", r"my_code/images.py has no 'zzz'\n  -> define zzz in it"),
        ("broken:f", r"broken.py:2: not valid Python: "),
        ("my_code.unused:f", r"my_code/unused.py:1: not valid Python: "),
        ("lacking:f", r"needs the package 'no_such_package', which is not installed"),
        ("failing:f", r"'failing' cannot be imported: failing.py:4: RuntimeError: no camera"),
        ("json:f", r"json.py has the name of an installed module \(Python's own\), which Python imports instead"),
        ("numpy:f", r"numpy has the name of an installed module \(/.*\), which Python imports instead"),
        ("flat:Net", r"is a class, not a function\n  -> define Net\(images\)"),
        ("my_code.shared:factor", r"is int, not a function"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model.transform: {text}.*{message}"):
        OwnFunction(CodeReference(text, "model.transform"), "images")


def test_a_wrong_signature_and_an_error_in_the_function() -> None:
    with pytest.raises(
        ConfigError, match=r"double\(images\) cannot be called as double\(labels, probabilities\): too many"
    ):
        OwnFunction(CodeReference("my_code.images:double"), "labels", "probabilities")
    function = OwnFunction(CodeReference("my_code.images:breaks", "model.transform"), "images")
    with pytest.raises(ConfigError) as raised:
        function(1)
    place = "my_code/images.py:10: AttributeError: 'int' object has no attribute 'nothing'"
    assert raised.value.message == f"model.transform: my_code.images:breaks failed: {place}"
    assert isinstance(raised.value.__cause__, AttributeError), "--verbose shows it"


def test_references_of_a_workload_by_section() -> None:
    keys = {
        "model.backbone": "nets:Net",
        "model.transform": "a.b:c",
        "training.augment.transform": "a.b:d",
        "evaluation.metrics": "[m:x, m:y]",
        "model.frozen_stages": "0",
    }
    workload = load_workload("textile", [f"{key}={value}" for key, value in keys.items()])
    found = [(item.key, item.module, item.name) for item in references(workload)]
    assert found == [
        ("model.backbone", "nets", "Net"),
        ("model.transform", "a.b", "c"),
        ("training.augment.transform", "a.b", "d"),
        ("evaluation.metrics", "m", "x"),
        ("evaluation.metrics", "m", "y"),
    ]
    assert [item.text for item in references(workload, ["evaluation", "gate"])] == ["m:x", "m:y"]
    assert references(load_workload("textile")) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.transform=images.py:f"], ""),
        (["model.transform=my_code/images:f"], "must be module:function, such as my_code.images:grey_world"),
        (["model.backbone=nets:"], "must be module:function"),
        (["model.backbone=nets:Net"], "frozen_stages counts stages of timm's models"),
        (["evaluation.metrics=[a:x, b:x]"], "two functions are called 'x'"),
        (["evaluation.metrics=[a:accuracy]"], "'accuracy' is the name of a built-in metric"),
        (
            ["gate.min_metrics={x: 0.5}"],
            "gate.min_metrics has a floor for 'x', which evaluation.metrics does not measure",
        ),
        (["evaluation.metrics=[a:top_2]", "gate.min_metrics.top_3=1"], "did you mean 'top_2'?"),
    ],
)
def test_what_a_workload_may_not_name(changes: list[str], message: str) -> None:
    if not message:
        load_workload("textile", changes)
        return
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_workload("textile", changes)
