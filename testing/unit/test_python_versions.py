"""Supported versions of Python: all places name the same ones, and the interpreter that a pipeline asks for is found."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FIND = ROOT / ".ci" / "python"


def find(version: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **variables}
    return subprocess.run([FIND, version], env=environment, capture_output=True, text=True, check=False)


def install(folder: Path, exit_code: int = 0) -> Path:
    """Something that starts as Python does, or fails as a shim of a version that is not chosen does."""
    folder.mkdir(parents=True)
    program = folder / "python"
    program.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    program.chmod(0o755)
    return program


def test_package_and_pipelines_name_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert project["requires-python"] == f">={named[0]}"
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["versions"]["strategy"]["matrix"]["python"]
    pipeline = yaml.safe_load((ROOT / "ado_pipelines/ci_pipeline.yml").read_text(encoding="utf-8"))
    (given,) = (item["default"] for item in pipeline["parameters"] if item["name"] == "pythons")
    assert named == [named[0], *matrix] == [named[0], *given]


@pytest.mark.parametrize("variable", ["RUNNER_TOOL_CACHE", "AGENT_TOOLSDIRECTORY"])
def test_a_version_among_the_tools_of_a_hosted_machine_is_found(tmp_path: Path, variable: str) -> None:
    program = install(tmp_path / "Python" / "3.99.4" / "x64" / "bin")
    found = find("3.99", **{variable: str(tmp_path)})
    assert (found.returncode, found.stdout.strip()) == (0, str(program))


def test_a_shim_that_fails_is_passed_over(tmp_path: Path) -> None:
    shim = install(tmp_path / "shims", 127).rename(tmp_path / "shims" / "python3.99")
    program = install(tmp_path / "versions" / "3.99.1" / "bin")
    path = f"{shim.parent}:{os.defpath}"
    found = find("3.99", PATH=path, PYENV_ROOT=str(tmp_path))
    assert (found.returncode, found.stdout.strip()) == (0, str(program))


def test_a_version_that_is_not_installed_is_an_error() -> None:
    found = find("3.99")
    assert found.returncode == 1
    assert "Python 3.99 is neither on the path nor among the tools of this machine" in found.stderr
