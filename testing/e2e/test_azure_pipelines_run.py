"""The Azure DevOps pipelines executed: their steps in order, and from nothing to a served model and a web app.

Behind them are the emulator, an `az` that builds and imports images in a folder, and a container engine that writes down
what it is asked: there is none here. How the services themselves behave, this does not show.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from testing.support.azure_pipelines.agent_az import write_az
from testing.support.azure_pipelines.agent_machine import AgentMachine
from testing.support.azure_pipelines.emulated_project import EmulatedProject, plain_agent
from testing.support.azure_pipelines.pipeline_model import Stage
from testing.support.azure_pipelines.pipeline_run import PipelineRun
from testing.support.azure_pipelines.project_pipelines import ROOT, organisation
from testing.support.azure_pipelines.run_results import StepResult
from testing.support.emulator_process import emulator
from testing.support.jobs import until
from testing.support.quick_training import QUICK, write_colours
from testing.support.recorded_engine import AUDIT, BILL, ENGINE, SYFT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HANDFUL = {
    "unitTests": "testing/unit/core/test_text.py",
    "integrationTests": "testing/emulator/test_fault_expressions.py",
}
BROKEN = "def test_that_fails() -> None:\n    assert not 'broken'\n"
SERVED = ("colours:1", "colours@candidate")
SETTINGS = " ".join(f"--set {item}" for item in QUICK)


def succeeded(run: PipelineRun) -> PipelineRun:
    print(run.report())
    assert run.result == "Succeeded", run.report()
    return run


def ran(run: PipelineRun, stage: str, job: str) -> list[str]:
    return [step.title for step in run.stages[stage].jobs[job].steps if step.result == "Succeeded"]


@pytest.fixture
def agent(tmp_path: Path) -> Callable[..., AgentMachine]:
    """Makes an agent that reaches nothing of Azure; files may be replaced in what it checks out."""

    def make(replaced: dict[str, str] | None = None, **variables: str) -> AgentMachine:
        # The checks of types take minutes from nothing; what the repository's own checks have found is taken along.
        environment = plain_agent(tmp_path / "bin") | {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")} | variables
        return AgentMachine(ROOT, tmp_path / "agent", environment, replaced=replaced or {})

    return make


def test_ci_runs_its_checks_and_a_handful_of_tests(agent: Callable[..., AgentMachine]) -> None:
    with organisation(agent()) as project:
        run = succeeded(project.queue("ci", **HANDFUL).execute())
    assert ran(run, "__default", "checks") == [
        "Check out", "Set the project up", "Run the checks", "Check the infrastructure",
    ]  # fmt: skip
    (total, failed), (share,) = *run.published.tests, run.published.coverage
    assert total > 5
    assert failed == 0
    assert 0 < share < 1


def test_a_test_that_fails_fails_ci_and_its_results_are_published(agent: Callable[..., AgentMachine]) -> None:
    file = "testing/unit/core/test_that_fails.py"
    with organisation(agent({file: BROKEN})) as project:
        run = project.queue("ci", unitTests=file, integrationTests=HANDFUL["integrationTests"])
        (stage,) = run.pipeline.stages
        tests = tuple(job for job in stage.jobs if job.name == "tests")
        run.pipeline = replace(run.pipeline, stages=(replace(stage, jobs=tests),))
        run.execute()
    results = {step.title: step.result for step in run.stages["__default"].jobs["tests"].steps}
    assert run.result == "Failed", run.report()
    assert results["Unit tests"] == "Failed"
    assert results["Integration tests"] == "Skipped"
    assert run.published.tests == [(1, 1)]


def test_ci_runs_the_fast_tests_on_further_pythons(agent: Callable[..., AgentMachine]) -> None:
    with organisation(agent()) as project:
        run = project.queue("ci", unitTests=HANDFUL["unitTests"])
        (stage,) = run.pipeline.stages
        jobs = tuple(job for job in stage.jobs if job.name.startswith("python_"))
        run.pipeline = replace(run.pipeline, stages=(replace(stage, jobs=jobs),))
        succeeded(run.execute())
    for job in ("python_3_12", "python_3_13"):
        steps = ["Check out", "Set the project up", "Programs that tests use", "Fast tests"]
        assert ran(run, "__default", job) == steps


def test_images_are_built_scanned_pushed_and_imported(agent: Callable[..., AgentMachine], tmp_path: Path) -> None:
    """The engine is one that writes down what it is asked, as this machine has none."""
    programs, calls, az = tmp_path / "bin", tmp_path / "calls", tmp_path / "az.calls"
    write_az(programs, tmp_path / "images", az)
    (programs / "docker").write_text(ENGINE)
    (programs / "docker").chmod(0o755)
    for name in ("mlops-app", "mlops-inferencing", "mlops-pipeline", "mlops-training"):
        (tmp_path / "images" / "crdev.azurecr.io" / name).mkdir(parents=True)
    tools = {".venv-images/bin/syft": SYFT, ".venv-images/bin/pip-audit": AUDIT, ".venv-images/.installed": ""}
    registries = {
        f"vision-{name}": {"MLOPS_AZURE_CONTAINER_REGISTRY": f"cr{name}.azurecr.io"} for name in ("dev", "prod")
    }
    machine = agent(tools, CALLS=str(calls), BILL=BILL)
    with organisation(machine, registries) as project:
        run = project.queue("docker_image")
        tag = run.predefined["Build.SourceVersion"]
        for image in (tmp_path / "images" / "crdev.azurecr.io").iterdir():
            (image / tag).mkdir()  # what the engine would have pushed
        succeeded(run.execute())
    asked = calls.read_text().splitlines()
    assert sum(line.startswith("docker build ") for line in asked) == 4
    for name in ("mlops-app", "mlops-inferencing", "mlops-pipeline", "mlops-training"):
        assert f"docker push crdev.azurecr.io/{name}:{tag}" in asked
        assert f"docker push crdev.azurecr.io/{name}:main" in asked
        assert (tmp_path / "images" / "crprod.azurecr.io" / name / tag).is_dir()
        assert (run.published.artifacts["sbom"] / f"{name}.cdx.json").is_file()
    assert az.read_text().splitlines()[0] == "acr login --name crdev"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    with emulator(tmp_path / "state") as running:
        yield EmulatedProject(running, tmp_path)


def mlops(project: EmulatedProject, environment: str, *words: str) -> str:
    done = subprocess.run(
        [str(ROOT / ".venv" / "bin" / "mlops"), *words],
        env=project.client(environment), cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def job_status(project: EmulatedProject, name: str) -> str:
    answer = project.running.call("GET", f"jobs/{name}?api-version=2024-04-01")
    return str(answer.json()["properties"]["status"])


def test_from_nothing_to_a_served_model_and_a_web_app(project: EmulatedProject) -> None:
    asked: list[str] = []

    def approve(run: PipelineRun, stage: Stage) -> bool:
        asked.append(f"{run.predefined['Build.DefinitionName']}: {stage.name}")
        return True

    images = write_colours(project.folder / "colours")
    mlops(project, "dev", "data", "register", str(images), "--name", "colours", "--on", "azure")
    with project.open({"vision-prod": approve}) as organisation:
        options = f"--images azureml:colours:1 {SETTINGS}"
        training = succeeded(organisation.queue("model_training", options=options).execute())
        assert ran(training, "train", "submit")[-2:] == ["Publish the training pipeline", "Start it"]
        assert training.published.tags == [], "nobody has waited for the training"

        verdict = succeeded(organisation.started_by_rest("model_training", 300).execute())
        assert verdict.published.tags == ["promote"]
        assert verdict.published.summaries[0].startswith("## colours:1: promote")
        digest = verdict.stages["verdict"].jobs["show"].outputs["verdict.digest"]

        deployment = succeeded(organisation.started_by_rest("model_deployment", 5).execute())
        assert asked == ["model_deployment: production"]
        assert deployment.stages["model"].jobs["choose"].outputs["verdict.digest"] == digest
        assert [step for step in ran(deployment, "production", "production") if step == "Smoke test"]
        trained, served = (json.loads(mlops(project, "prod", "models", "show", name, "--json")) for name in SERVED)
        assert trained["bundle_id"] == served["bundle_id"], "the bundle that was trained is served, not another one"
        assert "acr build --registry crvision --image mlops-colours:1-" in project.calls.read_text()

        app = succeeded(organisation.queue("flask_app_deployment").execute())
        assert asked[1:] == ["flask_app_deployment: prod"]
        urls = {name: app.stages[name].jobs["app"].outputs["app.slot.url"] for name in ("dev", "prod")}
        assert urls == {
            "dev": "https://vision-app-dev-staging.azurewebsites.net",
            "prod": "https://vision-app-staging.azurewebsites.net",
        }
        with project.running.session() as session:
            for name in ("vision-app-dev", "vision-app"):
                assert session.get(f"https://{name}.azurewebsites.net/", timeout=30).status_code == 200


def test_a_build_that_is_cancelled_cancels_its_job(project: EmulatedProject) -> None:
    images = write_colours(project.folder / "colours")
    mlops(project, "dev", "data", "register", str(images), "--name", "colours", "--on", "azure")
    with project.open({}) as organisation:
        run = organisation.queue(
            "model_training", options=f"--images azureml:colours:1 {SETTINGS} --set training.epochs=400"
        )

        def watch(step: StepResult) -> None:
            if step.title == "Start it":
                run.cancel()

        run.watch = watch
        run.execute()
    assert run.result == "Canceled", run.report()
    assert ran(run, "train", "submit")[-1] == "Cancel the job with the build"
    name = f"vision-train-{run.number}-1"
    until(lambda: job_status(project, name) in ("Canceled", "Completed", "Failed"), 60)
    assert job_status(project, name) == "Canceled"
