"""`mlops env register` with the real SDK: made once by content, from conda files and from Dockerfiles, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testing.support.places import Place

import vision_mlops

ROOT = Path(vision_mlops.__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]
CONDA = "name: mine\nchannels: [conda-forge]\ndependencies: [python=3.11, pip, {pip: [numpy==2.4.6]}]\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with conda files alone; the working folder."""
    folder = tmp_path / "project"
    for name in ("dev", "train", "deploy"):
        (folder / "environments" / "conda").mkdir(parents=True, exist_ok=True)
        (folder / "environments" / "conda" / f"{name}.yml").write_text(CONDA.replace("mine", name))
    monkeypatch.chdir(folder)
    return folder


def registered(run: Run, *words: str) -> dict[str, dict[str, Any]]:
    code, out, err = run("env", "register", *words, "--json")
    assert code == 0, err
    return {row["environment"]: row for row in json.loads(out)}


def test_a_project_registers_its_conda_files_once(place: Place, run: Run, project: Path) -> None:
    planned = registered(run, "--dry-run")
    assert {row["state"] for row in planned.values()} == {"would be created"}
    assert planned["vision-mlops-dev"]["from"] == "environments/conda/dev.yml"
    assert place.cloud is None or place.count("/environments/", "PUT") == 0
    made = registered(run)
    assert set(made) == {"vision-mlops-dev", "vision-mlops-train", "vision-mlops-deploy"}
    assert {name: row["version"] for name, row in made.items()} == {name: r["version"] for name, r in planned.items()}
    assert {row["state"] for row in made.values()} == {"created"}
    found = place.client.environments.get("vision-mlops-dev", made["vision-mlops-dev"]["version"])
    assert found.image.startswith("mcr.microsoft.com/azureml/")
    assert found.conda_file["dependencies"][-1] == {"pip": ["numpy==2.4.6"]}
    assert {row["state"] for row in registered(run).values()} == {"unchanged"}
    file = project / "environments" / "conda" / "dev.yml"
    file.write_text("# a comment installs nothing\n" + file.read_text())
    assert {row["state"] for row in registered(run).values()} == {"unchanged"}
    file.write_text(CONDA.replace("2.4.6", "2.4.5"))
    again = registered(run, "dev", "train")
    assert {name: row["state"] for name, row in again.items()} == {
        "vision-mlops-dev": "created", "vision-mlops-train": "unchanged",
    }  # fmt: skip
    assert len(list(place.client.environments.list("vision-mlops-dev"))) == 2


def test_the_environment_of_the_steps_has_the_name_that_jobs_look_for(
    place: Place, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the project says in `environments/train.yml` what it is, it is that."""
    monkeypatch.setenv("MLOPS_AZURE_ENVIRONMENT", "birds-train")
    (project / "environments" / "train.yml").write_text(
        "name: other\nimage: python:3.11\nconda_file: conda/train.yml\n"
    )
    (row,) = registered(run, "train").values()
    assert row["environment"] == "birds-train"
    assert place.client.environments.get("birds-train", row["version"]).image == "python:3.11"


@pytest.mark.slow
def test_this_repository_registers_its_dockerfiles(
    place: Place, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    for name in ("environments", "requirements", "src"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in (".amlignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    monkeypatch.chdir(root)
    made = registered(run, "--from", "docker")
    assert {name: row["from"].split("/")[2] for name, row in made.items()} == {
        "vision-mlops-deploy": "inferencing_image",
        "vision-mlops-dev": "mlops_pipeline_image",
        "vision-mlops-train": "training_image",
    }
    deploy = place.client.environments.get("vision-mlops-deploy", made["vision-mlops-deploy"]["version"])
    assert deploy.build.dockerfile_path == "environments/docker/inferencing_image/Dockerfile"
    definition = ROOT / "src/vision_mlops/endpoints/azureml/definitions/managed-deployment.yml"
    routes = yaml.safe_load(definition.read_text())["environment"]["inference_config"]
    assert sorted(map(str, deploy.inference_config.values())) == sorted(
        str({key: route[key] for key in ("port", "path")}) for route in routes.values()
    )
    # What `environments/train.yml` says is the same, so jobs find this version.
    assert [row["state"] for row in registered(run, "train").values()] == ["unchanged"]
    (root / "environments" / "conda" / "train.yml").write_text(CONDA)
    assert [row["state"] for row in registered(run, "train", "--from", "docker").values()] == ["unchanged"]
    (root / "requirements" / "base.txt").write_text("rich==1\n")
    assert [row["state"] for row in registered(run, "train", "--from", "docker").values()] == ["created"]


BAD = [
    (["trian"], None, "unknown environment 'trian'\n  -> did you mean"),
    (["dev", "--from", "docker"], None, "docker/mlops_pipeline_image/Dockerfile does not exist\n  -> "),
    (["dev", "--from", "podman"], None, "Invalid value for '--from'"),
    (["dev"], "dependencies: [", "conda/dev.yml cannot be read"),
    (["dev"], "- a list\n", "conda/dev.yml is not a mapping of keys to values\n  -> write `name:` and `dependencies:`"),
    (["dev"], "name: x\n", "conda/dev.yml has no list of dependencies\n  -> write"),
    (["dev"], "dependencies: [python, 3]\n", "3 is not a dependency"),
    (["dev"], "dependencies: [{pip: numpy}]\n", "{'pip': 'numpy'} is not a dependency"),
    (["dev"], "dependencies: [{pip: [-r ../requirements.txt]}]\n", "only the conda file is sent to Azure ML"),
    (["dev"], "dependencies: [{pip: [numpy, ../..]}]\n", "'../..' is a local file"),
    (["dev"], "dependencies: [{pip: [wheels/own-1.whl]}]\n", "'wheels/own-1.whl' is a local file"),
    (["dev"], "dependencies: [{pip: ['--editable .']}]\n", "'--editable .' is a local file"),
]


@pytest.mark.parametrize(("words", "content", "message"), BAD, ids=[message for *_, message in BAD])
def test_what_cannot_be_made_is_refused_before_azure_is_asked(
    mlops: Run, project: Path, words: list[str], content: str | None, message: str
) -> None:
    if content is not None:
        (project / "environments" / "conda" / "dev.yml").write_text(content)
    code, out, err = mlops("env", "register", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_a_project_that_is_none_and_settings_that_are_not_set(
    mlops: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = mlops("env", "register")
    assert code == 2
    assert "AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP, AZUREML_WORKSPACE_NAME are not set\n  -> export" in err
    assert "or put `mlops azure emulate --` before the command" in err
    (project / "empty").mkdir()
    monkeypatch.chdir(project / "empty")
    code, _, err = mlops("env", "register")
    assert code == 2
    assert "describes no environments\n  -> change to the folder of the project" in err
    (project / "environments" / "train.yml").write_text("build: {path: ., dockerfile_path: gone/Dockerfile}\n")
    monkeypatch.chdir(project)
    assert "gone/Dockerfile does not exist" in mlops("env", "register", "train")[2]
    (project / "environments" / "train.yml").write_text("image: a:1\nconda_file: {dependencies: [{pip: [-e .]}]}\n")
    assert "'-e .' is a local file" in mlops("env", "register", "train")[2]


def test_what_the_sdk_refuses_ends_with_its_reason(place: Place, run: Run, project: Path) -> None:
    (project / "environments" / "train.yml").write_text("name: of nothing\n")
    code, out, err = run("env", "register", "train")
    assert (code, out) == (2, "")
    assert err.startswith("error: environment vision-mlops-train:")
    assert "Traceback" not in err
