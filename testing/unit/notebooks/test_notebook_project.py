"""The project that a notebook belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.support.prepared_data import make_prepared

from vision_mlops.core.errors import ConfigError
from vision_mlops.notebooks.notebook_project import open_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose notebooks folder is the working folder, as in Jupyter."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    (root / "workloads").mkdir()
    monkeypatch.chdir(root / "notebooks")
    monkeypatch.setenv("MLOPS_HOME", str(root / "outputs"))
    return root


def test_the_root_is_gone_to_and_the_first_own_workload_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_project().name == "textile"
    for name in ("birds", "ants"):
        (project / "workloads" / f"{name}.yml").write_text(f"name: {name}\ndata: {{source: folder, path: photos}}\n")
    found = open_project()
    assert (found.root, found.name, Path.cwd()) == (project, "ants", project)
    assert (found.data, found.notes) == (Path("outputs/data/ants"), Path("outputs/notebooks/ants"))
    monkeypatch.setenv("MLOPS_WORKLOAD", "workloads/birds.yml")
    assert (open_project().name, open_project().reference) == ("birds", "workloads/birds.yml")
    monkeypatch.setenv("MLOPS_WORKLOAD", "birdz")
    with pytest.raises(ConfigError, match="unknown workload 'birdz'"):
        open_project()


def test_versions_are_remembered_for_the_next_notebook(project: Path) -> None:
    open_project().remember(first="textile:3")
    open_project().remember(second="textile:4")
    assert (open_project().version("first"), open_project().version("second")) == ("textile:3", "textile:4")
    with pytest.raises(ConfigError, match="no notebook has registered a version as 'third'"):
        open_project().version("third")


def test_jobs_get_the_workload_and_its_data(project: Path) -> None:
    _, workload, _, data = open_project().job_inputs
    assert workload.startswith('inputs.workload={"name": "textile"')
    assert data == "inputs.data.path=azureml:textile@latest"


def test_images_of_the_test_split_come_from_each_class(project: Path) -> None:
    found = open_project()
    make_prepared(project / found.data, test=2)
    assert [path.parent.name for path in found.test_images(5)] == ["blue", "green", "red", "blue", "green"]


def test_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is not in a project"):
        open_project()
