"""Conda files as what pip is to install: names, versions, files beside them, and what cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import write

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.local.environments.conda_files import CondaRequirements, read_conda_file
from vision_mlops.jobs.local.environments.conda_packages import conda_package
from vision_mlops.jobs.local.environments.pip_client import package_at_fault

SERIES = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("line", "requirement"),
    [
        ("numpy", "numpy"), ("numpy=1.26", "numpy==1.26.*"), ("numpy==1.26", "numpy==1.26"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy>=1.2,<2", "numpy>=1.2,<2"), ("numpy >= 1.2", "numpy>=1.2"), ("numpy!=1.3", "numpy!=1.3"),
        ("numpy~=1.2", "numpy~=1.2"), ("numpy 1.26", "numpy==1.26"), ("numpy=*", "numpy"), ("numpy>=1.2.*", "numpy>=1.2"),
        ("numpy=1.26=py311h64a7726_0", "numpy==1.26.*"), ("numpy==1.26=py311_0", "numpy==1.26"),
        ("numpy 1.26 py311_0", "numpy==1.26"),
        ("conda-forge::pytorch>=2", "torch>=2"), ("py-opencv", "opencv-python-headless"), ("pytables=3.9", "tables==3.9.*"),
        ("Pillow", "pillow"), ("librosa", "librosa"), ("numpy  # fast", "numpy"),
        ("pip=20.2", ""), ("setuptools", ""), (f"python={SERIES}", ""), ("cudatoolkit=11.3", ""), ("r-base", ""),
        ("mkl", ""),
    ],
)  # fmt: skip
def test_names_and_versions(line: str, requirement: str) -> None:
    package = conda_package(line)
    assert package is not None
    assert package.requirement == requirement


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("cudatoolkit=11.3", "'cudatoolkit' is not a Python package and is left out"),
        ("numpy=1.2|1.3", "the version '=1.2|1.3' is not understood; any version is accepted"),
        ("numpy[build=x]", "[build=x] is not understood"),
    ],
)
def test_what_is_lost_is_said(line: str, note: str) -> None:
    package = conda_package(line)
    assert package is not None
    assert note in package.note


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "conda.yaml", "# nothing yet\n")
    assert read_conda_file("conda.yaml", tmp_path, "step 'a'").lines == ()


def read(folder: Path, dependencies: list[Any], **more: Any) -> CondaRequirements:
    write(folder / "conda.yaml", {"name": "e", "channels": ["conda-forge"], "dependencies": dependencies, **more})
    return read_conda_file("conda.yaml", folder, "step 'a'")


def test_a_file_and_the_same_inline(tmp_path: Path) -> None:
    dependencies = [f"python={SERIES}", "pip", "scipy=1.1", {"pip": ["roman==5.0  # a comment", "# another", "torch"]}]
    of_file = read(tmp_path, dependencies)
    inline = read_conda_file({"dependencies": dependencies}, tmp_path, "step 'a'")
    assert of_file.lines == inline.lines == ("scipy==1.1.*", "roman==5.0", "torch")
    assert of_file.of_conda == {"scipy": "scipy==1.1.*"}
    assert (of_file.notes, of_file.name) == ((), "e")
    assert of_file.content() == inline.content()


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        (f"python={SERIES}", True), (f"python={SERIES}.1", True), (f"python>={SERIES}", True), ("python>=3.8,<4", True),
        ("python", True), ("python=3", True), ("python=3.7", False), ("python<3.8", False), ("python>=3.8,<3.10", False),
        ("python=2", False),
    ],
)  # fmt: skip
def test_another_python_is_said(tmp_path: Path, version: str, fits: bool) -> None:
    notes = read(tmp_path, [version, "roman"]).notes
    assert bool(notes) is not fits
    assert all(f"steps run in Python {SERIES} here" in note for note in notes)


def test_files_that_it_names_are_part_of_its_content(tmp_path: Path) -> None:
    """Relative paths start from the conda file, wherever it lies; where that is makes no difference."""
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        write(folder / "sets" / "base.txt", "-r more.txt\nroman\n")
        write(folder / "sets" / "more.txt", "six==1.0\n")
        write(folder / "own" / "setup.py", "x = 1\n")
        asked = read(folder, [{"pip": ["-r sets/base.txt", "-e ./own"]}])
        assert asked.lines[0] == f"-r {folder / 'sets' / 'base.txt'}"
        assert asked.base == folder
        contents.append(asked.content())
    assert contents[0] == contents[1]
    write(tmp_path / "b" / "sets" / "more.txt", "six==2.0\n")
    changed = read(tmp_path / "b", [{"pip": ["-r sets/base.txt", "-e ./own"]}]).content()
    write(tmp_path / "b" / "own" / "setup.py", "x = 2\n")
    again = read(tmp_path / "b", [{"pip": ["-r sets/base.txt", "-e ./own"]}]).content()
    assert len({*map(str, [contents[0], changed, again])}) == 3


@pytest.mark.parametrize(
    ("dependencies", "message"),
    [
        ([{"pip": ["-r nowhere.txt"]}], r"step 'a': .*conda\.yaml: '-r nowhere.txt': .*nowhere.txt does not exist"),
        (["=1.0"], "'=1.0' is not a dependency"),
        ([{"conda": ["x"]}], "is not a dependency\n  -> write `- pip:` with a list"),
        ([{"pip": "roman"}], "is not a dependency"),
        ("roman", "dependencies is not a list"),
    ],
)
def test_what_is_no_conda_file_is_refused(tmp_path: Path, dependencies: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        read(tmp_path, dependencies)


@pytest.mark.parametrize("content", ["dependencies: [a", "- a\n- b\n", "name: a\nname: b\n", "\x00"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path / "conda.yaml", content)
    with pytest.raises(PipelineError, match=r"step 'a': the conda file .*conda\.yaml"):
        read_conda_file("conda.yaml", tmp_path, "step 'a'")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("ERROR: Could not find a version that satisfies the requirement nope==9 (from versions: 1.0)\n"
         "ERROR: No matching distribution found for nope==9", "nope==9"),
        ("Collecting six\nERROR: Cannot install numpy==1.22 and scipy==1.17.1 because these package versions have "
         "conflicting dependencies.", "numpy==1.22 and scipy==1.17.1"),
        ("Collecting six\nCollecting scipy==1.0\n  error: subprocess-exited-with-error\n\n  × Getting requirements to "
         "build wheel did not run successfully.", "scipy==1.0"),
        ("Collecting a\n  ERROR: Failed building wheel for psutil\nERROR: Could not build wheels for psutil", "psutil"),
        ("ERROR: Invalid requirement: 'what is this' (from line 1 of requirements.txt)", "what is this"),
        ("killed", ""),
    ],
)  # fmt: skip
def test_the_package_at_fault(said: str, fault: str) -> None:
    assert package_at_fault(said) == fault
