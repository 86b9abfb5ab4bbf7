"""The asset store of this machine, through the command line and jobs that use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from testing.support.definitions import SCHEMA, write_project

from vision_mlops.core.errors import PipelineError
from vision_mlops.data.asset_store import AssetStore
from vision_mlops.jobs.definitions.plan.nodes import DataInput
from vision_mlops.jobs.local.inputs.asset_creation import create_asset
from vision_mlops.jobs.local.inputs.input_sources import Sources


def mlops(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vision_mlops", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Path:
    return write_project(tmp_path / "project")


@pytest.mark.slow
def test_a_job_uses_what_was_registered(project: Path, home: Path) -> None:
    """The component is whole in the store: the job runs though its source is gone."""
    (project / "code" / "prep.py").write_text(
        "import sys, pathlib\n"
        "target = pathlib.Path(sys.argv[-2]); (target / 'n').write_text(' '.join(sys.argv[2:5]))\n"
        "pathlib.Path(sys.argv[-1]).write_text('table')\n"
    )
    write(
        project / "data.yml", f"$schema: {SCHEMA}/data.schema.json\nname: pictures\ntype: uri_folder\npath: ./images\n"
    )
    assert mlops("assets", "create", project / "data.yml").stdout == "azureml:pictures:1\n"
    created = json.loads(mlops("assets", "create", project / "prep.yml", "--json").stdout)
    assert created["reference"] == "azureml:prep:1"
    job = write(
        project / "uses.yml",
        f"$schema: {SCHEMA}/pipelineJob.schema.json\ntype: pipeline\n"
        "inputs: {images: {type: uri_folder, path: 'azureml:pictures@latest'}}\noutputs: {out: {type: uri_folder}}\n"
        "jobs:\n  prep:\n    component: azureml:prep:1\n    inputs: {raw: '${{parent.inputs.images}}', share: 0.25}\n"
        "    outputs: {prepped: '${{parent.outputs.out}}'}\n",
    )
    for name in ("code", "images", "prep.yml"):
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    state: dict[str, Any] = json.loads(mlops("job", "run", job, "--json").stdout)
    assert Path(state["outputs"]["out"], "n").read_text() == "0.25 fast False"
    listed = json.loads(mlops("assets", "list", "--json").stdout)
    assert [row["reference"] for row in listed] == ["azureml:prep:1", "azureml:pictures:1"]


def test_versions_do_not_change_and_count_as_numbers(project: Path) -> None:
    file = write(project / "model.yml", f"$schema: {SCHEMA}/model.schema.json\nname: m\npath: ./images\n")
    assert [create_asset(file, version).version for version in ("9", "10", None)] == ["9", "10", "11"]
    with pytest.raises(PipelineError, match="'m' already has a version '9', and versions do not change"):
        create_asset(file, "9")
    assert AssetStore().find("models", "azureml:m@latest").version == "11"
    assert AssetStore().find("models", "m:10").content.name == "images"


def test_a_pipeline_component_takes_its_parts_along(project: Path, home: Path) -> None:
    path = create_asset(project / "inner.yml").content
    root = path.parent
    assert {item.relative_to(root).as_posix() for item in root.rglob("*.yml")} == {
        "inner.yml", "prep.yml", "fit.yml", "conda.yml"
    }  # fmt: skip
    assert (root / "code" / "prep.py").is_file()


def test_a_component_takes_along_code_with_a_prefix_its_includes_and_the_context_of_its_image(
    project: Path, home: Path
) -> None:
    for name in ("shared/tools.py", "image/Dockerfile"):
        (project / name).parent.mkdir()
        write(project / name, "")
    file = write(
        project / "own.yml",
        f"$schema: {SCHEMA}/commandComponent.schema.json\nname: own\ntype: command\ncommand: python prep.py\n"
        "code: file:./code\nadditional_includes: [./shared]\nenvironment: {build: {path: ./image}}\n",
    )
    root = create_asset(file).content.parent
    for name in ("own.yml", "code/prep.py", "shared/tools.py", "image/Dockerfile"):
        assert (root / name).is_file(), name


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("azureml:nothing:1", "no data named 'nothing' is registered on this machine"),
        ("azureml:pictures:7", "'pictures' has no version '7' on this machine"),
        ("azureml://datastores/store/paths/../../x", "leads out of the datastore 'store'"),
        ("azureml://datastores/store/paths/x", "does not exist"),
        ("abfss://somewhere/x", "cannot be read on this machine"),
    ],
)
def test_what_is_not_there_is_named(project: Path, reference: str, message: str) -> None:
    write(project / "data.yml", f"$schema: {SCHEMA}/data.schema.json\nname: pictures\npath: ./images\n")
    create_asset(project / "data.yml")
    with pytest.raises(PipelineError, match=message):
        Sources().find(DataInput(reference, "uri_folder", None, project), "input 'x'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\npath: ./none\n", "'./none' does not exist"),
        ("name: 'a b'\npath: ./images\n", "'a b' is not a valid name for an asset"),
        ("name: x\ntype: uri_file\npath: ./images\n", "is a folder, not a file"),
        ("name: x\ntype: mltable\npath: ./images\n", "contains no MLTable file"),
        ("path: ./images\n", "the key 'name' is missing"),
        ("name: x\npath: ../../outside\n", "is outside of the project|does not exist"),
    ],
)
def test_mistakes_in_an_asset(project: Path, text: str, message: str) -> None:
    file = write(project / "bad.yml", f"$schema: {SCHEMA}/data.schema.json\n{text}")
    with pytest.raises(PipelineError, match=message):
        create_asset(file)
    assert AssetStore().all("data") == []
