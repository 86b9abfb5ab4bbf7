"""`mlops run --pipeline`: a project's own pipeline, with its own components, in the place of the shipped one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import command, command_job, component, pipeline, write

from vision_mlops.cli.jobs.run import workload_for
from vision_mlops.cli.jobs.training_pipeline import PIPELINE, pipeline_file, read_pipeline
from vision_mlops.cli.main import main
from vision_mlops.cli.options import RunLocation
from vision_mlops.config import load_workload
from vision_mlops.core.errors import MlopsError, PipelineError
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.plan.nodes import DataInput
from vision_mlops.jobs.definitions.plan.planner import resolve

Run = Callable[..., tuple[int, str, str]]
PREPARE = component(
    "cat word.txt > ${{outputs.data}}/word.txt; echo '${{inputs.workload}}' > ${{outputs.data}}/workload.json"
    " $[[; ls ${{inputs.images}} > ${{outputs.data}}/images.txt]]",
    {"workload": "string", "images": {"type": "uri_folder", "optional": True}},
    outputs={"data": "uri_folder"},
    code="./code",
)
TRAIN = command(
    "cp ${{inputs.data}}/word.txt ${{outputs.bundle}}/; echo ${{inputs.name}} > ${{outputs.bundle}}/name.txt",
    inputs={"data": "${{parent.jobs.prepare.outputs.data}}", "name": "${{parent.inputs.model_name}}"},
) | {"outputs": {"bundle": "${{parent.outputs.bundle}}"}}
BIRDS = ("--workload", "textile", "--images", "photos/birds")
FOLDER = {"type": "uri_folder"}


def own(**changes: Any) -> dict[str, Any]:
    """A pipeline with inputs ``workload`` and ``model_name``, outputs ``data`` and ``bundle``, and components of its own."""
    prepare = {
        "component": "../components/prepare.yml",
        "inputs": {"workload": "${{parent.inputs.workload}}"},
        "outputs": {"data": "${{parent.outputs.data}}"},
    }
    content = pipeline(
        {"prepare": prepare, "train": TRAIN},
        inputs={"workload": "textile", "model_name": "textile"},
        outputs={"data": FOLDER, "bundle": FOLDER},
    )
    return {**content, **changes}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose pipeline and components lie in folders of their own; commands run in its top folder."""
    folder = tmp_path / "project"
    write(folder / ".amlignore", "")
    write(folder / "components" / "prepare.yml", PREPARE)
    write(folder / "components" / "code" / "word.txt", "mine")
    write(folder / "pipelines" / "train.yml", own())
    write(folder / "photos" / "birds" / "a.png", "")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(
    project: Path, monkeypatch: pytest.MonkeyPatch, without_mlflow: None, capsys: pytest.CaptureFixture[str]
) -> Run:
    """``mlops`` in this process: exit code, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *words])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        return int(code), printed.out, printed.err

    return call


def test_inputs_are_given_by_name() -> None:
    training = read_pipeline(PIPELINE)
    assert training.given({"nodes": "2", "shm_size": "8g"}) == ["inputs.nodes=2", "inputs.shm_size=8g"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ("--input", "node=2"),
            "train.yml: the pipeline has no input 'node'\n  -> did you mean 'nodes'? Valid here: fail_on, ",
        ),
        (
            ("--input", "workload=birds"),
            "--input workload: the workload gives this input\n  -> choose it with --workload",
        ),
        (("--input", "nodes"), "--input 'nodes' is not of the form NAME=VALUE"),
        (("--input", "nodes=many"), "inputs.nodes"),
    ],
)
def test_wrong_inputs_are_refused(run: Run, words: tuple[str, ...], reason: str) -> None:
    code, _, err = run("run", "--workload", "textile", "--pipeline", str(PIPELINE), *words)
    assert (code, reason in err) == (2, True), err


def test_it_runs_with_the_workload_and_its_outputs_come_to_their_places(run: Run, home: Path) -> None:
    words = ("run", "--pipeline", "pipelines/train.yml", "--set", "training.epochs=7")
    code, out, err = run(*words)
    assert (code, out) == (0, ""), "there is no verdict to tell"
    assert "completed" in err
    assert (home / "bundles" / "textile" / "word.txt").read_text() == "mine"
    assert (home / "bundles" / "textile" / "name.txt").read_text() == "textile\n"
    workload = json.loads((home / "data" / "textile" / "workload.json").read_text())
    assert (workload["name"], workload["training"]["epochs"]) == ("textile", 7)
    assert not (home / "data" / "textile" / "images.txt").exists()
    assert not (home / "verdicts").exists()
    state = json.loads(run(*words, "--json")[1])
    assert {step["status"] for step in state["steps"].values()} == {"Reused"}
    assert state["tags"]["workload"] == "textile"


def test_images_go_to_the_step_that_prepares(run: Run, home: Path) -> None:
    code, _, err = run("run", "--pipeline", "pipelines/train.yml", *BIRDS)
    assert code == 0, err
    assert (home / "data" / "birds" / "images.txt").read_text() == "a.png\n"
    assert (home / "bundles" / "birds" / "name.txt").read_text() == "birds\n"


def test_a_pipeline_that_does_less(run: Run, project: Path, home: Path) -> None:
    """No model_name, no step that prepares, one output, which has a place of its own."""
    text = "echo '${{inputs.workload}}' > ${{outputs.report}}/workload.json"
    only = command(text, inputs={"workload": "${{parent.inputs.workload}}"})
    only["outputs"] = {"report": "${{parent.outputs.report}}"}
    report = {"type": "uri_folder", "path": "../made"}
    content = pipeline({"look": only}, inputs={"workload": "textile"}, outputs={"report": report})
    write(project / "pipelines" / "look.yml", content)
    code, _, err = run("run", "--pipeline", "pipelines/look.yml")
    assert code == 0, err
    assert (project / "made" / "workload.json").is_file()
    assert not (home / "reports").exists()
    code, _, err = run("run", "--pipeline", "pipelines/look.yml", *BIRDS)
    assert code == 2
    assert "--images needs a step 'prepare' with an input 'images'" in err
    assert "data.source: folder" in err
    # A workload that names its folder itself is handed over as it is.
    named = ("--set", "data.source=folder", "--set", "data.path=photos/birds")
    code, _, err = run("run", "--pipeline", "pipelines/look.yml", *named)
    assert code == 0, err


def test_prepare_without_an_input_for_images(run: Run, project: Path) -> None:
    text = "echo '${{inputs.workload}}' > ${{outputs.data}}/word.txt"
    part = {**PREPARE, "inputs": {"workload": {"type": "string"}}, "command": text}
    write(project / "components" / "prepare.yml", part)
    assert run("run", "--pipeline", "pipelines/train.yml")[0] == 0
    code, _, err = run("run", "--pipeline", "pipelines/train.yml", *BIRDS)
    assert (code, "--images needs a step 'prepare'" in err) == (2, True)


@pytest.mark.parametrize("on", ["local", "azure"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.yml", None, "pipelines/missing.yml:1: the file does not exist"),
        ("job.yml", command_job("true"), "accepted here: pipelineJob"),
        ("no-workload.yml", own(inputs={"model_name": "x"}), "the pipeline has no input 'workload'"),
        ("wrong.yml", own(jobs={"a": {**command("true"), "comand": "true"}}), "comand"),
    ],
)
def test_what_is_no_training_pipeline_is_refused(
    run: Run, project: Path, name: str, content: dict[str, Any] | None, message: str, on: str
) -> None:
    if content is not None:
        write(project / "pipelines" / name, content)
    code, out, err = run("run", "--pipeline", f"pipelines/{name}", "--on", on)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: pipelines/{name}")
    assert message in err
    assert "\n  -> " in err


def test_a_component_that_is_missing_is_named_with_its_line(run: Run, project: Path) -> None:
    (project / "components" / "prepare.yml").unlink()
    code, _, err = run("run", "--pipeline", "pipelines/train.yml")
    assert code == 2
    assert "component '../components/prepare.yml' does not exist" in err


def test_what_the_shipped_pipeline_takes() -> None:
    shipped = read_pipeline(PIPELINE)
    assert shipped.inputs >= {"workload", "model_name"}
    assert shipped.outputs == {"data", "bundle", "report", "verdict"}
    assert shipped.prepare is not None
    assert shipped.prepare >= {"workload", "images", "source"}


@pytest.mark.parametrize("name", ["sweep.yml", "sweep-grid.yml", "sweep-bayesian.yml"])
def test_sweeps_take_a_workload_too(name: str) -> None:
    sweep = read_pipeline(PIPELINE.with_name(name))
    changes = sweep.changes(load_workload("textile"), None, RunLocation.LOCAL)
    assert [change.partition("=")[0] for change in changes] == ["inputs.workload"]


def test_scoring_is_no_training() -> None:
    with pytest.raises(PipelineError, match="has no input 'workload'"):
        read_pipeline(PIPELINE.with_name("score-batch.yml"))


def test_a_registered_component_may_take_images(project: Path) -> None:
    """Its inputs are not known here; the place that runs it checks them."""
    jobs = {"prepare": {"component": "azureml:prepare:1", "inputs": {"workload": "${{parent.inputs.workload}}"}}}
    content = pipeline(jobs, inputs={"workload": "textile"}, settings={"default_compute": "azureml:c"})
    found = read_pipeline(write(project / "pipelines" / "registered.yml", content))
    changes = found.changes(load_workload("textile"), project / "photos" / "birds", RunLocation.AZURE)
    assert changes[-1].startswith("jobs.prepare.inputs.images={type: uri_folder")


@pytest.mark.parametrize("name", ["Photos #2", "Client: A", "no", "{a}", 'it\'s "x"', "- x", "日本 🦜", "a\u2028b\x7f"])
def test_folders_whose_names_yaml_would_read_as_something_else(project: Path, name: str) -> None:
    folder = project / name
    write(folder / "red" / "a.png", "")
    found = read_pipeline(project / "pipelines" / "train.yml")
    workload = workload_for("textile", folder, ())
    assert workload.title == name
    named = load_workload("textile", ["name=no"])
    changes = [*found.changes(named, folder, RunLocation.LOCAL), *found.placed({"data": folder / "out"})]
    plan = resolve(project / "pipelines" / "train.yml", changes=parse_changes(changes))
    images = next(node for node in plan.nodes if node.step == "prepare").inputs["images"]
    assert isinstance(images, DataInput)
    assert (images.path, plan.inputs["model_name"]) == (str(folder), "no")
    assert json.loads(plan.inputs["workload"])["name"] == "no"
    assert plan.outputs["data"][2].path == str(folder / "out")


def test_an_inline_step_that_prepares(project: Path) -> None:
    step = command("ls ${{inputs.images}}", inputs={"images": {"type": "uri_folder", "path": "../photos"}})
    content = pipeline({"prepare": step}, inputs={"workload": "textile"})
    found = read_pipeline(write(project / "pipelines" / "inline.yml", content))
    assert found.prepare == frozenset({"images"})
    del step["inputs"]
    found = read_pipeline(write(project / "pipelines" / "inline.yml", content))
    with pytest.raises(MlopsError, match="--images needs a step 'prepare'"):
        found.changes(load_workload("textile"), project / "photos", RunLocation.LOCAL)


def test_watching_with_a_pipeline_of_ones_own(run: Run, project: Path, home: Path) -> None:
    words = (
        "pipeline",
        "watch",
        "--workload",
        "textile",
        "--data",
        "photos/birds",
        "--pipeline",
        "pipelines/train.yml",
        "--once",
        "--settle",
        "0",
    )
    code, _, err = run(*words)
    assert code == 0, err
    assert (home / "data" / "birds" / "images.txt").read_text() == "a.png\n"
    assert "the images are those of the last run" in run(*words)[2]
    content = own()
    del content["jobs"]["prepare"]
    content["jobs"]["train"] = command("true")
    content["outputs"] = {}
    write(project / "pipelines" / "train.yml", content)
    code, _, err = run(*words)
    assert (code, "--images needs a step 'prepare'" in err) == (2, True), "it is refused before it watches"


def test_the_pipeline_of_the_project_in_the_current_folder_wins_over_the_one_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pipeline_file(None) == PIPELINE
    assert capsys.readouterr().err == ""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "train.yml").write_text("type: pipeline\n", encoding="utf-8")
    assert pipeline_file(None) == Path("pipelines/train.yml")
    assert "pipelines/train.yml" in capsys.readouterr().err
    assert pipeline_file(PIPELINE) == PIPELINE
