"""A project of one's own from the package as it is shipped: made, checked, tested by its own CI, and its demo run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from testing.support.journey import QUICK, Journey
from testing.support.projects import commit, environment_of, plain_environment, sources
from testing.support.workflow_runs import WorkflowMachine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_BUILD = "import sys; from setuptools import build_meta as b; out = sys.argv[1]; b.build_sdist(out); b.build_wheel(out)"


@dataclass(frozen=True)
class Shipped:
    """What was built, and an environment that the wheel is installed in."""

    wheel: Path
    sdist: Path
    environment: Path

    def run(self, folder: Path, *words: str, **variables: str) -> str:
        """Run a program of the environment, which nothing but the environment tells of this repository."""
        path = f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        known = {**plain_environment(), "PATH": path, "VENV": str(self.environment), **variables}
        done = subprocess.run(words, cwd=folder, env=known, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    folder = tmp_path_factory.mktemp("shipped")
    command = [sys.executable, "-c", _BUILD, str(folder)]
    subprocess.run(command, cwd=sources(folder / "sources"), env=plain_environment(), capture_output=True, check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    environment = environment_of(folder / "venv", tools=("ruff",))
    install = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, env=plain_environment(), check=True)
    return Shipped(wheel, sdist, environment)


@pytest.fixture(scope="module")
def birds(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with images of its own, made and set up outside of any repository, then committed."""
    folder = tmp_path_factory.mktemp("own")
    Journey(folder)
    shipped.run(folder, "mlops", "init", "birds", "--images", "my photos", "--defaults")
    shipped.run(folder / "birds", "make", "setup", f"VISION_MLOPS={shipped.wheel}")
    commit(folder / "birds", "From the template")
    return folder / "birds"


def test_a_wheel_of_the_source_archive_is_the_same(shipped: Shipped, tmp_path: Path) -> None:
    with tarfile.open(shipped.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    build = "from setuptools import build_meta as b; b.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, env=plain_environment(), capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(shipped.wheel) as other:
        assert set(one.namelist()) == set(other.namelist())
        names = [name for name in one.namelist() if "/shipped/" in name]
        assert len(names) > 80
        assert [name for name in names if one.read(name) != other.read(name)] == []


def test_a_project_of_a_wheel_finds_the_next_version_in_the_repository(birds: Path, shipped: Shipped) -> None:
    answers = yaml.safe_load((birds / ".copier-answers.yml").read_text(encoding="utf-8"))
    with zipfile.ZipFile(shipped.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        repository = re.findall(r"^Project-URL: Repository, (.*)$", wheel.read(name).decode(), re.MULTILINE)
    assert [answers["_src_path"]] == repository
    version = shipped.wheel.name.split("-")[1]
    assert answers["_commit"] == f"v{version}"
    assert f"git+{repository[0]}@v{version}" in (birds / "pyproject.toml").read_text(encoding="utf-8")


def test_checks_of_a_project_pass_and_find_a_mistake(birds: Path, shipped: Shipped) -> None:
    shipped.run(birds, "make", "check")
    workload = birds / "workloads" / "birds.yml"
    text = workload.read_text(encoding="utf-8")
    try:
        workload.write_text(text.replace("epochs:", "epoch:"), encoding="utf-8")
        with pytest.raises(AssertionError, match=r"unknown key 'training\.epoch'"):
            shipped.run(birds, "make", "check")
    finally:
        workload.write_text(text, encoding="utf-8")


def test_its_workflow_runs_its_tests(birds: Path, shipped: Shipped, tmp_path: Path) -> None:
    variables = {"VENV": str(shipped.environment), "VISION_MLOPS": str(shipped.wheel)}
    machine = WorkflowMachine(tmp_path / "machine", environment=variables, root=birds)
    code, printed = machine.run("ci.yml", "workflow_dispatch", "-j", "tests")
    assert code == 0, printed
    assert re.search(r"\| unit \| 3 \| 0 \| 0 \|", printed), printed
    assert re.search(r"\| integration \| 2 \| 0 \| 0 \|", printed), printed
    assert re.search(r"Coverage: [\d.]+% of the lines", printed)


def test_its_demo_trains_and_serves_with_its_own_pipeline(birds: Path, shipped: Shipped) -> None:
    printed = shipped.run(birds, "make", "demo", **QUICK)
    assert "pipeline pipelines/train.yml" in printed
    assert "The server has stopped" in printed
    assert len(re.findall(r"^test/.*: .* [\d.]+%", printed, re.MULTILINE)) == 3, printed
    verdict = json.loads((birds / "outputs" / "verdicts" / "birds.json").read_text(encoding="utf-8"))
    assert verdict["decision"] == "promote"
