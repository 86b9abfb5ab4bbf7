"""A project that is made from the template: what is in it for each answer, and what is refused."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_problems import wrong
from testing.support.azure_pipelines.project_pipelines import PIPELINES
from testing.support.azure_pipelines.script_lines import ScriptLines, with_included
from testing.support.azure_pipelines.unread_names import unread
from testing.support.guide_blocks import broken_links
from testing.support.projects import ROOT, commit, git, project
from testing.support.workflow_runs import tool
from typer.testing import CliRunner

from vision_mlops.cli.init import _ask_for_images
from vision_mlops.cli.main import app
from vision_mlops.config import load_workload
from vision_mlops.core.errors import MlopsError
from vision_mlops.devops.setup.setup_plan import SetupRequest
from vision_mlops.devops.setup.setup_session import open_setup
from vision_mlops.flask_app.brand import load_brand
from vision_mlops.jobs.azureml.environment_assets import Origin, chosen
from vision_mlops.jobs.definitions.linter.linter import lint
from vision_mlops.project import template_origin as origins
from vision_mlops.project.new_project import ProjectRequest, make_project
from vision_mlops.project.project_answers import read_questions

TARGETS = ["local", "docker", "aci", "aks", "managed", "kubernetes-endpoint"]
# What belongs to the package or is left out of what a team owns.
NOT_COUNTED = ("infrastructure/", "notebooks/", "pipelines/components/")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project for each place where its pipelines can run, with all targets in one and the defaults in the other."""
    folder = tmp_path_factory.mktemp("projects")
    return {
        "github": project(folder / "birds"),
        "azure-devops": project(folder / "wood_grain", ci="azure-devops", targets=TARGETS, region="northeurope"),
    }


def owned(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if not path.relative_to(folder).as_posix().startswith(NOT_COUNTED)]


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["github", "azure-devops"])
def test_a_team_owns_few_files_and_lines(ci: str, made: dict[str, Path]) -> None:
    files = owned(made[ci])
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix != ".jpg"]
    assert len(files) <= 40
    assert sum(len(text.splitlines()) for text in texts) <= 1500


@pytest.mark.parametrize("ci", ["github", "azure-devops"])
def test_no_name_of_the_template_is_left(ci: str, made: dict[str, Path]) -> None:
    """Nor are Jinja's marks; what stands in ${{ }} is as it was."""
    pattern = re.compile(
        r"vision-(?!mlops)|crvision|textile@|nominal\.jpg|src/vision_mlops|requirements/|\[[%=]|[%=]\]"
    )
    expressions = 0
    for path in owned(made[ci]):
        if path.suffix != ".jpg":
            text = path.read_text(encoding="utf-8")
            assert pattern.findall(text) == [], path
            assert text.endswith("\n"), path
            assert not text.endswith("\n\n"), path
            expressions += text.count("${{")
    assert expressions > 30


def test_expressions_of_the_workflows_are_untouched(made: dict[str, Path]) -> None:
    for name in ("model_training", "model_deployment", "docker_image", "flask_app_deployment", "ci"):
        ours = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
        ours = ours.partition("\n  versions:\n")[0]  # a project has one version of Python
        theirs = (made["github"] / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
        found = re.findall(r"\$\{\{.*?\}\}", theirs)
        expected = re.findall(r"\$\{\{.*?\}\}", ours)
        assert found == [text.replace("vision-", "birds-").replace("textile", "birds") for text in expected]


def test_each_answer_decides_where_its_pipelines_are(made: dict[str, Path]) -> None:
    github, azure = made["github"], made["azure-devops"]
    assert not (github / "ado_pipelines").exists()
    assert (github / ".ci" / "github_sign_in").stat().st_mode & 0o111
    assert not (azure / ".github").exists()
    assert not (azure / ".ci").exists()
    assert "AZURE_LOCATION ?= northeurope" in (azure / "Makefile").read_text(encoding="utf-8")
    assert "kubernetes," in (azure / "pyproject.toml").read_text(encoding="utf-8")
    assert "kubernetes" not in (github / "pyproject.toml").read_text(encoding="utf-8")
    kept = yaml.safe_load((azure / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert {name: kept[name] for name in ("name", "ci", "region", "targets", "images")} == {
        "name": "wood_grain", "ci": "azure-devops", "region": "northeurope", "targets": TARGETS, "images": "",
    }  # fmt: skip
    assert kept["_commit"]
    assert kept["_src_path"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "expected"),
    [(["local"], "managed"), (["aci", "aks", "managed"], "aks"), (["kubernetes-endpoint"], "kubernetes-endpoint")],
)
def test_the_first_target_for_production_is_that_of_the_deployment(
    targets: list[str], expected: str, tmp_path: Path
) -> None:
    made = project(tmp_path / "birds", targets=targets, ci="azure-devops")
    text = (made / "ado_pipelines" / "model_deployment_pipeline.yml").read_text(encoding="utf-8")
    assert f"default: {expected}\n" in text
    assert f"value: {expected}\n" in (made / "ado_pipelines" / "variables" / "prod.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PIPELINES)
def test_all_that_an_azure_pipeline_of_a_project_names_exists(name: str, made: dict[str, Path]) -> None:
    folder = made["azure-devops"]
    ways = [{}, {"registered": "wood_grain:3"}] if name == "model_training" else [{}]
    ways += [{"target": "managed"}] if name == "model_deployment" else []
    for given in ways:
        assert wrong(PipelineFiles(folder), name, given, ScriptLines(folder / "Makefile")) == []


@pytest.mark.slow
def test_whatever_its_pipelines_declare_is_read(made: dict[str, Path]) -> None:
    assert unread(made["azure-devops"] / "ado_pipelines", ROOT / "src" / "vision_mlops") == []


def test_checkers_of_workflows_find_nothing(made: dict[str, Path]) -> None:
    # A repository, as actionlint looks for one.
    folder = made["github"]
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    workflows = folder / ".github" / "workflows"
    for words in ([tool("actionlint")], [tool("zizmor"), "--offline", "--quiet", str(workflows)]):
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([tool("hadolint"), *folder.rglob("Dockerfile")], check=False).returncode == 0


@pytest.mark.parametrize("ci", ["github", "azure-devops"])
def test_targets_that_workflows_call_are_in_the_makefile(ci: str, made: dict[str, Path]) -> None:
    """What `make` is called with anywhere, it can do; make itself reads the recipes."""
    folder = made[ci]
    called = re.findall(r"make ([^\n&|]+)", "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.yml")))
    words = {word for line in called for word in re.findall(r"(?<!\S)[a-z][a-z-]+(?!\S)", line)}
    targets = words & set(re.findall(r"(?m)^([a-z-]+):", with_included(ROOT / "Makefile")))
    assert {"setup", "agent-path", "test-unit", "images-push", "smoke-app"} <= targets
    # The source that images are made from is fetched first.
    here = sorted(target for target in targets if not target.startswith("images"))
    assert targets - set(here) <= set(re.findall(r"images[a-z-]*", (folder / "Makefile").read_text(encoding="utf-8")))
    given = [
        "IMAGE=a.azurecr.io/b:1",
        "CONTEXT=c",
        "REGISTRY=a.azurecr.io",
        "KUBERNETES_CLUSTER=a",
        "KUBERNETES_GROUP=b",
    ]
    make = subprocess.run(["make", "--dry-run", *here, *given], cwd=folder, capture_output=True, text=True, check=False)
    assert make.returncode == 0, make.stderr


def test_its_definitions_are_found_right(made: dict[str, Path]) -> None:
    folder = made["github"]
    assert lint([folder / "pipelines" / name for name in ("train.yml", "train-component.yml")]).errors == []
    assert load_workload(str(folder / "workloads" / "birds.yml")).data.source == "bundled"
    assert load_brand(folder / "app").texts.title == "Birds"


@pytest.mark.parametrize("ci", ["github", "azure-devops"])
def test_links_of_its_documents_lead_somewhere(ci: str, made: dict[str, Path]) -> None:
    documents = [path for path in made[ci].rglob("*.md") if "components" not in path.parts]
    assert {path.name for path in documents} >= {"README.md"}
    assert [problem for document in documents for problem in broken_links(document)] == []


def test_its_workflows_can_be_set_up_without_azure_pipelines(made: dict[str, Path]) -> None:
    """An environment of the workflows is set up with the settings of its own environment, and no other."""
    ids = "AZURE_SUBSCRIPTION_ID=00000000-0000-0000-0000-000000000000\nAZURE_RESOURCE_GROUP=rg\n"
    (made["github"] / ".env.dev").write_text(f"{ids}AZUREML_WORKSPACE_NAME=mlw-birds-dev\n", encoding="utf-8")
    request = SetupRequest(made["github"], "dev", github="contoso/birds")
    with open_setup(request, print) as session:
        lines = session.commands(pushed=True)
    assert lines[0] == "gh api --method PUT repos/contoso/birds/environments/birds-dev"
    assert "gh variable set AZUREML_WORKSPACE_NAME --repo contoso/birds --env birds-dev --body mlw-birds-dev" in lines
    assert "birds-prod" not in "\n".join(lines)


def test_an_edit_of_a_project_does_not_build_the_image_of_the_steps_anew(made: dict[str, Path]) -> None:
    origins: tuple[Origin | None, ...] = (None, "docker")
    for origin in origins:
        source = chosen(made["github"], ["train"], origin)["train"]
        assert source.content["build"] == {"path": "docker/training_image", "dockerfile_path": "Dockerfile"}
        context = made["github"] / "environments" / "docker" / "training_image"
        assert [path.name for path in context.iterdir()] == ["Dockerfile"]


def test_its_conda_files_are_ours_with_the_package_that_it_pins(made: dict[str, Path]) -> None:
    pin = re.findall(
        r"vision-mlops\[.*\] @ (git\+[^\"]+)", (made["github"] / "pyproject.toml").read_text(encoding="utf-8")
    )
    for ours in (ROOT / "environments" / "conda").glob("*.yml"):
        theirs = yaml.safe_load((made["github"] / "environments" / "conda" / ours.name).read_text(encoding="utf-8"))
        (*others, package), (*expected, _) = (
            content["dependencies"][-1]["pip"] for content in (theirs, yaml.safe_load(ours.read_text(encoding="utf-8")))
        )
        assert others == expected
        assert [package] == [f"vision-mlops @ {one}" for one in pin]


@pytest.mark.slow
def test_images_make_workload_contract_and_handful(tmp_path: Path) -> None:
    for label, colour in {"blue tit": "blue", "yes": "red"}.items():
        for number in range(20):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300 + number, 240), colour).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "yes" / "0.png").write_bytes(b"no image")
    folder = tmp_path / "birds"
    made = make_project(ProjectRequest(folder, {"name": "birds", "images": str(tmp_path / "photos")}))
    assert [line.split(":")[0] for line in made.left_out] == ["will be left out"]
    assert made.answers["images"] == "data/birds"
    workload = load_workload(str(folder / "workloads" / "birds.yml"))
    assert (workload.name, workload.data.path) == ("birds", "data/birds")
    assert (folder / "data" / "birds").readlink() == tmp_path / "photos"
    contract = yaml.safe_load((folder / "tests" / "data_contract.yml").read_text(encoding="utf-8"))
    assert contract == {"classes": ["blue tit", "yes"]}
    images = folder / "tests" / "images"
    handful = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.jpg"))
    assert len(handful) == 16
    assert handful[0] == "blue tit/1.jpg"
    with Image.open(folder / "data" / "examples" / "sample.jpg") as sample:
        assert max(sample.size) == 160


def colours(folder: Path) -> Path:
    """Images of two classes."""
    for label in ("blue", "red"):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (64 + number, 48), label).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_clone_elsewhere_says_where_its_images_can_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path / "birds", images=str(colours(tmp_path / "photos")))
    commit(made, "From the template")
    clone = tmp_path / "elsewhere"
    git(tmp_path, "clone", "--quiet", str(made), str(clone))
    texts = [path.read_text(encoding="utf-8") for path in owned(clone) if path.suffix in (".yml", ".md")]
    assert [text for text in texts if str(tmp_path / "photos") in text] == []
    assert not os.path.lexists(clone / "data" / "birds")
    assert len(list((clone / "tests" / "images").rglob("*.jpg"))) == 16
    monkeypatch.chdir(clone)
    assert CliRunner().invoke(app, ["config", "check", "--workload", "workloads/birds.yml"]).exit_code == 0
    for words in (["run", "--workload", "birds"], ["data", "prepare", "--workload", "birds"]):
        error = CliRunner().invoke(app, words).exception
        assert isinstance(error, MlopsError)
        assert "`ln -s DIR data/birds`" in str(error)
        assert "`mlops data download --from azureml:birds@latest --out data/birds`" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["github", "azure-devops"])
def test_its_pipeline_trains_on_the_registered_images(ci: str, made: dict[str, Path], tmp_path: Path) -> None:
    own = project(tmp_path / "birds", images=str(colours(tmp_path / "photos")), ci=ci)
    place = (
        "ado_pipelines/model_training_pipeline.yml" if ci == "azure-devops" else ".github/workflows/model_training.yml"
    )
    registered = '--workload "$WORKLOAD" --images "azureml:$WORKLOAD@latest" $OPTIONS'
    assert registered in (own / place).read_text(encoding="utf-8")
    assert "--images" not in (made[ci] / place).read_text(encoding="utf-8").replace("or --images", "")
    assert "mlops data register data/birds --name birds --on azure" in (own / "README.md").read_text(encoding="utf-8")
    if ci == "azure-devops":
        assert wrong(PipelineFiles(own), "model_training", {}, ScriptLines(own / "Makefile")) == []


def test_a_wrong_folder_is_asked_for_again(tmp_path: Path) -> None:
    photos = colours(tmp_path / "photos")
    with CliRunner().isolation(input=f"{tmp_path / 'nowhere'}\n{photos}\n") as streams:
        assert _ask_for_images("Images") == str(photos)
        assert b"nowhere does not exist" in streams[1].getvalue() + streams[0].getvalue()


def test_another_build_is_installed_in_a_project_that_is_set_up(made: dict[str, Path], tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "calls"}\n')
    python.chmod(0o755)
    wheel = tmp_path / "one.whl"
    wheel.touch()

    def installed(*words: str) -> list[str]:
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            ["make", "setup", f"VENV={tmp_path / 'venv'}", *words], cwd=made["github"], capture_output=True, text=True,
            env={name: value for name, value in os.environ.items() if name != "VISION_MLOPS"}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return re.findall(r"--force-reinstall (\S+)", (tmp_path / "calls").read_text(encoding="utf-8"))

    assert len(installed()) == 1
    assert installed() == []
    assert installed(f"VISION_MLOPS={wheel}") == [str(wheel)]
    assert installed(f"VISION_MLOPS={wheel}") == []
    assert installed() == [], "it stays"
    later = time.time() + 5
    os.utime(wheel, (later, later))
    assert installed(f"VISION_MLOPS={wheel}") == [str(wheel)]
    assert installed("VISION_MLOPS=two.whl") == ["two.whl"]


@pytest.mark.slow
def test_it_takes_no_more_than_two_seconds(tmp_path: Path) -> None:
    """Of the processor, its children included, as others may be at work."""
    before = os.times()
    done = subprocess.run(
        [tool("mlops"), "init", "birds", "--defaults"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    after = os.times()
    assert done.returncode == 0, done.stderr
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2


def run(*words: str, code: int = 2) -> str:
    done = CliRunner().invoke(app, ["init", *words])
    error = done.exception
    if isinstance(error, MlopsError):
        assert code == 2
        return str(error)
    assert done.exit_code == code, done.output
    return done.output


REFUSED = {
    "name": (["Birds", "--defaults"], "-> give another NAME"),
    "long name": (["b" * 25, "--defaults"], "2 to 24 in all"),
    "unknown answer": (["birds", "--defaults", "--data", "regoin=x"], "did you mean 'region'"),
    "no value": (["birds", "--defaults", "--data", "region"], "not of the form NAME=VALUE"),
    "choice": (["birds", "--defaults", "--data", "ci=jenkins"], "ci: unknown choice 'jenkins'"),
    "target": (["birds", "--defaults", "--data", "targets=local,mars"], "targets: unknown choice 'mars'"),
    "no target": (["birds", "--defaults", "--data", "targets="], "choose at least one"),
    "region": (["birds", "--defaults", "--data", "region=West Europe"], "give another --data region=VALUE"),
    "no images": (["birds", "--defaults", "--images", "nowhere"], "nowhere"),
    "ref alone": (["birds", "--defaults", "--ref", "v2"], "--template"),
    "no terminal": (["birds", "--data", "ci=github"], "no answer for images, region, targets"),
    "name twice": (["birds", "--defaults", "--data", "name=other"], "is given besides NAME"),
    "path": (["new/birds", "--defaults"], "mlops init birds --out new/birds"),
    "region of a nested one": (
        ["birds", "--out", "a/b/birds", "--defaults", "--data", "region=-"],
        "such as westeurope",
    ),
    "template": (["birds", "--defaults", "--template", "nowhere/at/all"], "no project was created"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in run(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_folder_with_files_is_left_alone_and_an_empty_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "mine.txt").write_text("mine")
    assert "birds exists already" in run("birds", "--defaults")
    assert [path.name for path in (tmp_path / "birds").iterdir()] == ["mine.txt"]
    (tmp_path / "birds" / "mine.txt").unlink()
    answers = json.loads(run("birds", "--defaults", "--json", code=0))["answers"]
    assert answers["name"] == "birds"
    assert (tmp_path / "birds" / "Makefile").is_file()


@pytest.mark.slow
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vision_mlops.project.new_project.place_components", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_project(ProjectRequest(tmp_path / "birds", {"name": "birds"}))
    assert list(tmp_path.iterdir()) == []


def test_every_question_has_a_default_and_a_help() -> None:
    questions = read_questions(ROOT)
    assert list(questions) == ["name", "images", "region", "ci", "targets"]
    assert all("default" in question and question["help"] for question in questions.values())


def test_an_installed_package_knows_where_its_template_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit that pip installed from; else the repository of the metadata, at the tag of the version."""

    class Installed:
        def __init__(self, direct: str | None) -> None:
            self._direct = direct

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self._direct

        @property
        def metadata(self) -> Installed:
            return self

        def get_all(self, name: str) -> list[str]:
            assert name == "Project-URL"
            return ["Documentation, https://example.org/docs", "Repository, https://example.org/a.git"]

    direct = {
        "url": "https://example.org/b.git",
        "vcs_info": {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "v3"},
    }
    monkeypatch.setattr(origins, "repository", lambda: tmp_path)
    for text, expected in (
        (json.dumps(direct), ("https://example.org/b.git", "v3")),
        (json.dumps({"url": "file:///x.whl", "archive_info": {}}), ("https://example.org/a.git", "v0.1.0")),
        (None, ("https://example.org/a.git", "v0.1.0")),
    ):
        monkeypatch.setattr(importlib.metadata.Distribution, "from_name", lambda _, text=text: Installed(text))
        found = origins.template_origin()
        assert (found["template_repository"], found["template_ref"]) == expected
