"""Conda files, the image of the job steps and the pins: they name each other, and nothing is pinned twice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pathspec
import pytest
import yaml
from environments import conda_files
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from testing.support.azure_pipelines.script_lines import with_included

import vision_mlops
from vision_mlops.endpoints.appservice.app_package import ROOMS

ROOT = Path(vision_mlops.__file__).parents[2]
DOCKERFILES = sorted((ROOT / "environments" / "docker").rglob("*Dockerfile"))
CONDA = sorted((ROOT / "environments" / "conda").glob("*.yml"))
DOCKERFILE = ROOT / "environments" / "docker" / "training_image" / "Dockerfile"
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PINS = {"dev": "dev.txt", "train": "azure-train.txt", "deploy": "azmlinfsrv.txt"}
"""Where the packages of a conda file are pinned."""
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# azureml-mlflow, which only the image needs, accepts these and no newer ones.
OLDER_IN_THE_IMAGE = {"mlflow-skinny", "azure-storage-blob"}


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def pins(path: Path) -> dict[str, str]:
    """Version by package of one file, without those that it includes."""
    exact = (line.partition(";")[0].partition("==") for line in own(path))
    return {canonicalize_name(name): version for name, _, version in exact}


def own(path: Path) -> Iterator[str]:
    return (line for line in lines(path) if not line.startswith("-"))


def included(path: Path) -> set[Path]:
    """A requirements file and all that it includes."""
    others = [path.parent / line.removeprefix("-r ") for line in lines(path) if line.startswith("-r ")]
    return {path, *chain.from_iterable(included(other) for other in others)}


def packages(path: Path) -> dict[str, str]:
    """Version by package of a file with all that it includes."""
    return {name: version for file in included(path) for name, version in pins(file).items()}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_requirements_are_exact_and_come_once(path: Path) -> None:
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; platform_machine != 'aarch64')?", line) for line in own(path))
    names = [name for file in included(path) for name in pins(file)]
    assert sorted(names) == sorted(set(names)), "a package is pinned by two files that are installed together"


def test_a_package_has_one_version_in_all_files() -> None:
    found: dict[str, set[str]] = {}
    for path in REQUIREMENTS:
        for name, version in pins(path).items():
            found.setdefault(name, set()).add(version)
    assert {name for name, versions in found.items() if len(versions) > 1} == {
        "azure-storage-blob",
        "pydantic",
    }  # azmlinfsrv wants an older one
    assert "mlflow" in found, "the full package, which is everywhere but in the image"


def test_the_image_trains_with_the_packages_of_this_machine() -> None:
    here = packages(ROOT / "requirements" / "train.txt") | packages(ROOT / "requirements" / "azure.txt")
    image = packages(ROOT / "requirements" / "azure-train.txt")
    assert {name for name in image if name in here and image[name] != here[name]} <= OLDER_IN_THE_IMAGE
    not_for_training = {
        "mlflow",
        "alembic",
        "sqlalchemy",
        "pandas",
        "cleanlab",
        "termcolor",
        "nncf",
        "pyarrow",
        "shfmt-py",
    }
    deploying = {"azure-common", "azure-mgmt-containerinstance", "azure-mgmt-web"}
    not_for_training |= deploying
    assert {name for name in here if name not in image} == not_for_training
    # Without the last, pip tries version after version of what mlflow-skinny and azure-ai-ml need, and comes to no end.
    assert {name for name in image if name not in here} == {
        "mlflow-skinny", "azureml-mlflow", "azure-storage-file-datalake", "opentelemetry-sdk",
    }  # fmt: skip


def test_pins_are_what_the_package_declares() -> None:
    declared = [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]
    wanted = [Requirement(text) for text in declared if not text.startswith("vision-mlops[")]
    for path in REQUIREMENTS:
        found = packages(path)
        for item in wanted:
            version = found.get(canonicalize_name(item.name))
            assert version is None or item.specifier.contains(version), f"{path.name}: {item.name} {version}"


@pytest.mark.parametrize("path", CONDA, ids=lambda path: path.stem)
def test_conda_files_need_nothing_beside_them(path: Path) -> None:
    """Azure ML is sent the file alone: all pins are in it, and the package comes from the tag of its version."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["name"] == f"vision-mlops-{path.stem}"
    *plain, last = content["dependencies"]
    assert plain == [f"python={_python()}", "git", "pip"]
    *listed, package = [Requirement(line) for line in last["pip"]]
    pinned = packages(ROOT / "requirements" / PINS[path.stem])
    assert {canonicalize_name(item.name): str(item.specifier) for item in listed} == {
        name: f"=={version}" for name, version in pinned.items()
    }
    assert {str(item.marker) for item in listed if item.marker} == {'platform_machine != "aarch64"'}
    assert (package.name, package.url) == (
        "vision-mlops", f"git+{PROJECT['urls']['Repository']}@v{vision_mlops.__version__}",
    )  # fmt: skip
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), f"pip would look for another {text}"


def test_a_conda_file_that_is_not_what_the_pins_say_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "environments" / "conda", tmp_path / "environments" / "conda")
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(conda_files, "ROOT", tmp_path)
    monkeypatch.setattr(conda_files, "FOLDER", tmp_path / "environments" / "conda")
    monkeypatch.setattr(sys, "argv", ["conda_files.py", "--check"])
    assert conda_files.main() == 0
    pins = tmp_path / "requirements" / "base.txt"
    pins.write_text(pins.read_text().replace("rich==", "rich==9"))
    assert conda_files.main() == 1
    assert "environments/conda/dev.yml, environments/conda/train.yml: out of date" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["conda_files.py"])
    assert conda_files.main() == 0
    assert "- rich==9" in (tmp_path / "environments" / "conda" / "train.yml").read_text()
    pins.write_text(pins.read_text() + "torch==1.0\n")
    with pytest.raises(ValueError, match=r"torch==2\.13\.0 contradicts torch==1\.0"):
        conda_files.main()


def _python() -> str:
    """The oldest Python that the package runs on, which is the one that it is used with."""
    return str(PROJECT["requires-python"]).removeprefix(">=")


def test_conda_files_are_those_of_the_template() -> None:
    assert [path.stem for path in CONDA] == ["deploy", "dev", "train"]


def test_the_image_of_the_steps_has_its_own_pins() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert "requirements/azure-train.txt" in text


@pytest.mark.parametrize(
    "path", [path for path in DOCKERFILES if path.name == "Dockerfile"], ids=lambda path: path.parent.name
)
def test_images_are_built_in_two_stages_on_a_base_that_can_be_chosen(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"\nARG BASE_IMAGE=python:{_python()}-slim-bookworm\nFROM ${{BASE_IMAGE}} AS packages\n" in text
    assert text.count("\nFROM ${BASE_IMAGE}") == 2, (
        "packages are installed in one stage, and only copied into the other"
    )
    assert "\nARG SOURCE_DATE_EPOCH=0\n" in text, "bytecode must not depend on the time of the build"


def test_the_image_of_the_pipelines_brings_what_make_installs() -> None:
    text = (ROOT / "environments" / "docker" / "mlops_pipeline_image" / "Dockerfile").read_text(encoding="utf-8")
    makefile = with_included(ROOT / "Makefile").replace("$(PINS)", "requirements")
    installed = set(re.findall(r"-r (requirements/[\w-]+\.txt)", text))
    assert installed == set(re.findall(r"-r (requirements/[\w-]+\.txt)", makefile)) - {"requirements/images.txt"} | {
        "requirements/azure-cli.txt"
    }
    (venv,) = re.findall(r"^ENV VENV=(\S+)", text, re.MULTILINE)
    assert f"{venv}-checkov/.installed" in text
    content = re.sub(r"^\s*//.*$", "", (ROOT / ".devcontainer" / "devcontainer.json").read_text(), flags=re.MULTILINE)
    development = json.loads(content)
    assert (ROOT / ".devcontainer" / development["build"]["dockerfile"]).resolve().parent.name == "mlops_pipeline_image"
    assert (ROOT / ".devcontainer" / development["build"]["context"]).resolve() == ROOT
    assert f"useradd --create-home --shell /bin/bash {development['remoteUser']}\n" in text


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.relative_to(path.parents[1]).as_posix())
def test_dockerfiles_follow_the_rules(path: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_inferencing_image_serves_without_what_trains() -> None:
    folder = ROOT / "environments" / "docker" / "inferencing_image"
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    assert "\nARG EXTRAS=serve\n" in text
    serving = packages(ROOT / "requirements" / "serve.txt")
    assert not {"torch", "mlflow", "mlflow-skinny", "azure-ai-ml", "opentelemetry-sdk"} & set(serving)
    (user,) = [line.split()[1] for line in text.splitlines() if line.startswith("USER ")]
    assert all(int(part) > 0 for part in user.split(":"))
    assert text.rstrip().endswith('ENTRYPOINT ["mlops", "serve"]')
    baked = (folder / "baked.Dockerfile").read_text(encoding="utf-8")
    assert "\nCOPY bundle/ /model/\n" in baked
    assert "MLOPS_BUNDLE=/model" in text


def test_the_image_is_built_from_what_is_sent() -> None:
    """Each source of a COPY is there, and .amlignore lets it through, but nothing that is large or private."""
    environment = yaml.safe_load((ROOT / "environments" / "train.yml").read_text(encoding="utf-8"))
    context = ROOT / "environments" / environment["build"]["path"]
    assert context.resolve() == ROOT
    assert (context / environment["build"]["dockerfile_path"]).samefile(DOCKERFILE)
    ignored = pathspec.PathSpec.from_lines("gitignore", lines(ROOT / ".amlignore"))
    copies = [line.split()[1:-1] for line in lines(DOCKERFILE) if line.startswith("COPY ") and "--from=" not in line]
    assert "ADD src* src/" in lines(DOCKERFILE)
    for source in (*chain.from_iterable(copies), "src"):
        files = [ROOT / source] if (ROOT / source).is_file() else list((ROOT / source).rglob("*.*"))
        sent = [file for file in files if not ignored.match_file(file.relative_to(ROOT).as_posix())]
        assert sent, f"{source} is not sent along"
    private = [".env", ".git/config", "data/x.jpg", "outputs/mlflow.db", ".venv/bin/python", "src/x.egg-info/PKG-INFO"]
    private += ["src/azureml_emulator/emulated_cloud.py"]
    assert all(ignored.match_file(name) for name in private)


def test_the_image_of_the_web_frontend_holds_what_its_zip_does() -> None:
    text = (ROOT / "environments" / "docker" / "flask_app" / "Dockerfile").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^COPY src/vision_mlops/(\w+)/ \1/$", text, re.MULTILINE)) == ROOMS
    assert "install -r requirements/app-azure.txt" in text
    installed = set(packages(ROOT / "requirements" / "app-azure.txt"))
    assert not {"torch", "openvino", "mlflow", "azure-ai-ml", "onnx"} & installed
    (user,) = [line.split()[1] for line in text.splitlines() if line.startswith("USER ")]
    assert all(int(part) > 0 for part in user.split(":"))
