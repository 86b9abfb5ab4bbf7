"""What a local run makes of a definition: components, bindings, inputs of all types and modes, code, variables."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import (
    SCHEMA,
    command,
    command_job,
    component,
    mlops,
    output,
    pipeline,
    run,
    state,
    statuses,
    text,
    write,
)

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError
from vision_mlops.data.asset_store import AssetStore

pytestmark = pytest.mark.usefixtures("without_mlflow")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Data and code beside the definitions, in a folder with a difficult name."""
    folder = tmp_path / "my project's"
    write(folder / "data" / "a b.csv", "1,2\n")
    write(folder / "data" / "deep" / "c.csv", "3\n")
    write(folder / "code" / "step.sh", "echo from code\n")
    return folder


def test_command_job(project: Path) -> None:
    job = command_job(
        "cat ${{inputs.table}} > ${{outputs.copy}} && ls ${{inputs.folder}} > ${{outputs.list}}/names && echo ${{inputs.n}}",
        {"copy": "uri_file", "list": "uri_folder"},
        inputs={
            "table": {"type": "uri_file", "path": "data/a b.csv"},
            "folder": {"type": "uri_folder", "path": str(project / "data")},
            "n": 3,
        },
    )
    ended = run(write(project / "job.yml", job))
    assert statuses(ended) == {"job": "Completed"}
    assert text(ended, "job", "copy") == "1,2"
    assert (output(ended, "job", "list") / "names").read_text().split("\n") == ["a b.csv", "deep", ""]
    assert Path(ended.state.outputs["copy"]).read_text() == "1,2\n"
    assert (paths.home() / "jobs" / ended.state.name / "steps" / "job" / "stdout.log").read_text() == "3\n"
    assert ended.state.kind == "commandJob"
    assert ended.state.inputs == {"table": "data/a b.csv", "folder": str(project / "data"), "n": "3"}


def test_components_from_files_inline_nested_and_the_store(project: Path) -> None:
    write(project / "parts" / "part.yml", component("echo ${{inputs.word}} > ${{outputs.out}}", {"word": "string"},
                                                    outputs={"out": "uri_file"}))  # fmt: skip
    inner = {
        "$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner", "version": 1,
        "inputs": {"word": {"type": "string", "default": "inner"}, "before": {"type": "uri_file"}},
        "outputs": {"all": {"type": "uri_file"}},
        "jobs": {
            "say": {"component": "./part.yml", "inputs": {"word": "${{parent.inputs.word}}"}},
            "join": command(
                "cat ${{inputs.a}} ${{inputs.b}} > ${{outputs.out}}",
                inputs={"a": "${{parent.inputs.before}}", "b": "${{parent.jobs.say.outputs.out}}"},
                outputs={"out": {"type": "uri_file", "path": "${{parent.outputs.all}}"}},
            ),
        },
    }  # fmt: skip
    write(project / "parts" / "inner.yml", inner)
    stored = component("cat ${{inputs.x}} > ${{outputs.out}}", {"x": "uri_file"}, outputs={"out": "uri_file"})

    def content(folder: Path) -> Path:
        return write(folder / "content" / "part.yml", stored)

    AssetStore().add("components", "stored", "7", "command", content)
    job = pipeline(
        {
            "first": {"type": "command", "component": "file:./parts/part.yml", "inputs": {"word": "first"}},
            "nested": {
                "type": "pipeline", "component": "./parts/inner.yml",
                "inputs": {"before": "${{parent.jobs.first.outputs.out}}"},
            },
            "inline": {
                "component": component("tr a-z A-Z < ${{inputs.x}} > ${{outputs.out}}", {"x": "uri_file"},
                                       outputs={"out": "uri_file"}) | {"$schema": f"{SCHEMA}/commandComponent.schema.json"},
                "inputs": {"x": "${{parent.jobs.nested.outputs.all}}"},
            },
            "stored": {"component": "azureml:stored:7", "inputs": {"x": "${{parent.jobs.inline.outputs.out}}"},
                       "outputs": {"out": "${{parent.outputs.result}}"}},
            "latest": {"component": "azureml:stored@latest", "inputs": {"x": "${{parent.jobs.first.outputs.out}}"}},
        },
        outputs={"result": {"type": "uri_file"}},
    )  # fmt: skip
    ended = run(write(project / "job.yml", job))
    assert set(statuses(ended)) == {"first", "nested/say", "nested/join", "inline", "stored", "latest"}
    assert set(statuses(ended).values()) == {"Completed"}
    assert Path(ended.state.outputs["result"]).read_text() == "FIRST\nINNER\n"
    assert text(ended, "latest") == "first"


def test_registered_component_that_does_not_exist(project: Path) -> None:
    job = write(project / "job.yml", pipeline({"a": {"component": "azureml:nobody:1", "inputs": {}}}))
    with pytest.raises(PipelineError, match="no component 'azureml:nobody:1' is registered on this machine"):
        run(job)


def test_values_as_declared(project: Path) -> None:
    declared = {
        "text": {"type": "string"},
        "number": {"type": "number", "min": 0, "max": 1},
        "whole": {"type": "integer"},
        "yes": {"type": "boolean"},
        "kind": {"type": "string", "enum": ["red", "green"], "default": "green"},
        "missing": {"type": "integer", "optional": True},
        "given": {"type": "integer", "optional": True},
    }
    shown = " ".join(f"{name}=${{{{inputs.{name}}}}}" for name in declared if name not in ("missing", "given"))
    optional = "$[[ --missing ${{inputs.missing}} ]] $[[--given ${{inputs.given}}]]"
    text_of = f"echo {shown} {optional} > ${{{{outputs.out}}}}"
    write(project / "part.yml", component(text_of, declared, outputs={"out": "uri_file"}))
    inputs = {"text": "a", "number": "${{parent.inputs.share}}", "whole": 3.0, "yes": "True", "given": "7"}
    job = pipeline({"a": {"component": "./part.yml", "inputs": inputs}}, inputs={"share": 1e-05})
    ended = run(write(project / "job.yml", job))
    assert text(ended, "a") == "text=a number=1e-05 whole=3 yes=True kind=green --given 7"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("number", 2, "above max"),
        ("number", "much", "not of type number"),
        ("whole", 1.5, "not of type integer"),
        ("yes", "maybe", "not of type boolean"),
    ],
)
def test_values_are_checked_through_nested_pipelines(project: Path, name: str, value: object, message: str) -> None:
    declared = {
        "number": {"type": "number", "max": 1, "default": 0.5},
        "whole": {"type": "integer", "default": 1},
        "yes": {"type": "boolean", "default": True},
        "kind": {"type": "string", "enum": ["red", "green"], "default": "red"},
    }
    write(project / "part.yml", component("echo " + " ".join(f"${{{{inputs.{key}}}}}" for key in declared), declared))
    inner = {
        "$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner", "version": 1,
        "inputs": {"value": {"type": "string"}},
        "jobs": {"deep": {"component": "./part.yml", "inputs": {name: "${{parent.inputs.value}}"}}},
    }  # fmt: skip
    write(project / "inner.yml", inner)
    job = pipeline({"outer": {"type": "pipeline", "component": "./inner.yml", "inputs": {"value": str(value)}}})
    with pytest.raises(PipelineError, match=f"(?s){name}.*{message}"):
        run(write(project / "job.yml", job))
    assert not (paths.home() / "jobs").exists()


def test_inputs_of_another_step_and_texts_around_values(project: Path) -> None:
    write(project / "part.yml", component("echo ${{inputs.a}}-${{inputs.b}} > ${{outputs.out}}",
                                          {"a": "string", "b": {"type": "integer", "default": 5}},
                                          outputs={"out": "uri_file"}))  # fmt: skip
    job = pipeline(
        {
            "one": {"component": "./part.yml", "inputs": {"a": "x-${{parent.inputs.word}}-y"}},
            "two": {"component": "./part.yml", "inputs": {"a": "${{parent.jobs.one.inputs.a}}",
                                                          "b": "${{parent.jobs.one.inputs.b}}"}},
        },
        inputs={"word": "w"},
    )  # fmt: skip
    ended = run(write(project / "job.yml", job), "inputs.word=v")
    assert text(ended, "one") == "x-v-y-5"
    assert text(ended, "two") == "x-v-y-5"


def _typed(project: Path, type_: str, path: str) -> dict[str, Any]:
    return command_job("ls -d ${{inputs.x}}", inputs={"x": {"type": type_, "path": path}})


@pytest.mark.parametrize(
    ("type_", "path", "message"),
    [
        ("uri_file", "data/a b.csv", ""),
        ("uri_folder", "data", ""),
        ("mltable", "table", ""),
        ("mlflow_model", "model", ""),
        ("custom_model", "model", ""),
        ("custom_model", "data/a b.csv", ""),
        ("triton_model", "model", ""),
        ("uri_file", "data", "is a folder, not a file"),
        ("uri_folder", "data/a b.csv", "is a file, not a folder"),
        ("mltable", "data", "contains no MLTable file"),
        ("mlflow_model", "data", "contains no MLmodel file"),
        ("uri_folder", "nowhere", "does not exist"),
        ("uri_file", "x" * 300, "cannot be used: .*too long"),
        ("uri_file", "a\0b", "cannot be used"),
        ("uri_folder", "~nobody-here/x", "cannot be used"),
        ("uri_folder", "wasbs://c@a.blob.core.windows.net/x", "cannot be read on this machine"),
        ("uri_folder", "azureml://datastores/d/paths/../../x", "leads out of the datastore"),
        ("uri_file", "http://[bad", "cannot be used: Invalid"),
        ("uri_folder", "https://127.0.0.1/x", "one file, not a folder"),
        ("uri_folder", "azureml:nothing:1", "no data named 'nothing' is registered on this machine"),
    ],
)
def test_types_of_data(project: Path, type_: str, path: str, message: str) -> None:
    write(project / "table" / "MLTable", "paths: []\n")
    write(project / "model" / "MLmodel", "flavors: {}\n")
    job = write(project / "job.yml", _typed(project, type_, path))
    if not message:
        assert statuses(run(job)) == {"job": "Completed"}
        return
    with pytest.raises(PipelineError, match=message) as caught:
        run(job)
    assert caught.value.hint
    assert not (paths.home() / "jobs").exists()


def test_data_of_the_stores(project: Path) -> None:
    write(paths.home() / "datastores" / "lake" / "x" / "y.txt", "of the datastore\n")
    AssetStore().add("data", "table", "1", "uri_file", project / "data" / "a b.csv")
    AssetStore().add("data", "folder", None, "uri_folder", project / "data")
    AssetStore().add("models", "net", "10", "custom_model", project / "data")
    job = command_job(
        "cat ${{inputs.store}} ${{inputs.table}} ${{inputs.folder}}/deep/c.csv ${{inputs.model}}/deep/c.csv",
        inputs={
            "store": {"type": "uri_file", "path": "azureml://datastores/lake/paths/x/y.txt"},
            "table": {"type": "uri_file", "path": "azureml:table:1"},
            "folder": {"type": "uri_folder", "path": "azureml:folder@latest"},
            "model": {"type": "custom_model", "path": "azureml:net:10"},
        },
    )
    ended = run(write(project / "job.yml", job))
    log = paths.home() / "jobs" / ended.state.name / "steps" / "job" / "stdout.log"
    assert log.read_text().split("\n") == ["of the datastore", "1,2", "3", "3", ""]


@pytest.mark.parametrize("path", ["data", "data/a b.csv"])
def test_a_step_may_write_into_a_copy(project: Path, path: str) -> None:
    (project / "data" / "a b.csv").chmod(0o444)
    type_ = "uri_folder" if path == "data" else "uri_file"
    job = command_job(
        "echo ${{inputs.x}} && if [ -d ${{inputs.x}} ]; then rm -r ${{inputs.x}}/*; else echo more >> ${{inputs.x}}; fi",
        inputs={"x": {"type": type_, "path": path, "mode": "download"}},
    )
    ended = run(write(project / "job.yml", job))
    assert statuses(ended) == {"job": "Completed"}
    assert (project / "data" / "a b.csv").read_text() == "1,2\n"
    assert (project / "data" / "deep" / "c.csv").is_file()
    given = (paths.home() / "jobs" / ended.state.name / "steps" / "job" / "stdout.log").read_text().strip()
    assert given != str(project / path)
    if type_ == "uri_file":
        assert Path(given).name == "a b.csv"


def test_output_of_another_step_in_download_mode(project: Path) -> None:
    job = pipeline(
        {
            "make": command("echo made > ${{outputs.out}}/x", {"out": "uri_folder"}),
            "spoil": command(
                "rm ${{inputs.x}}/x",
                inputs={"x": {"type": "uri_folder", "path": "${{parent.jobs.make.outputs.out}}", "mode": "download"}},
            ),
        }
    )
    file = write(project / "job.yml", job)
    ended = run(file)
    assert statuses(ended) == {"make": "Completed", "spoil": "Completed"}
    assert (output(ended, "make") / "x").read_text() == "made\n"
    assert statuses(run(file)) == {"make": "Reused", "spoil": "Reused"}


@pytest.mark.parametrize("mode", ["ro_mount", "direct", None])
def test_other_modes_give_the_path_itself(project: Path, mode: str | None) -> None:
    given = {"type": "uri_folder", "path": "data"} | ({"mode": mode} if mode else {})
    ended = run(write(project / "job.yml", command_job("echo ${{inputs.x}} > ${{outputs.out}}", {"out": "uri_file"},
                                                       inputs={"x": given})))  # fmt: skip
    assert text(ended, "job") == str(project / "data")


def test_direct_mode_gives_an_address_as_it_is(project: Path) -> None:
    given = {"type": "uri_folder", "path": "https://example.invalid/data", "mode": "direct"}
    ended = run(write(project / "job.yml", command_job("echo ${{inputs.x}} > ${{outputs.out}}", {"out": "uri_file"},
                                                       inputs={"x": given})))  # fmt: skip
    assert text(ended, "job") == "https://example.invalid/data"


def test_environment_of_a_step(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "yes")
    monkeypatch.setenv("AZUREML_WORKSPACE_NAME", "team")
    part = component(
        "env > ${{outputs.out}}", {"data": "uri_folder", "n": "integer"},
        outputs={"out": "uri_file"},
        environment_variables={"OWN": "own ${{inputs.n}}", "PLACE": "${{inputs.data}}", "FLAG": True, "BOTH": "component"},
    )  # fmt: skip
    write(project / "part.yml", part)
    step = {
        "component": "./part.yml",
        "inputs": {"data": {"type": "uri_folder", "path": "data"}, "n": 3},
        "environment_variables": {"BOTH": "step ${{parent.inputs.word}}"},
    }
    ended = run(write(project / "job.yml", pipeline({"a": step}, inputs={"word": "w"})), name="called")
    found = dict(line.split("=", 1) for line in output(ended, "a").read_text().splitlines() if "=" in line)
    assert found["FROM_OUTSIDE"] == "yes"
    assert found["OWN"] == "own 3"
    assert found["PLACE"] == found["AZURE_ML_INPUT_data"] == str(project / "data")
    assert found["BOTH"] == "step w"
    assert found["FLAG"] in ("True", "true")
    assert found["MLOPS_HOME"] == str(paths.home())
    assert (found["AZUREML_RUN_ID"], found["AZUREML_ROOT_RUN_ID"]) == ("called_a", "called")
    assert found["AZUREML_ARM_SUBSCRIPTION"] == "00000000-0000-0000-0000-000000000000"
    assert found["AZUREML_WORKSPACE_SCOPE"].endswith("/resourceGroups/local/providers/"
                                                     "Microsoft.MachineLearningServices/workspaces/team")  # fmt: skip
    assert {name: found[name] for name in ("AZUREML_EXPERIMENT_NAME", "AZUREML_ARM_PROJECT_NAME", "AZUREML_PROCESS_NAME",
                                           "AZUREML_CR_NODE_RANK", "AZUREML_NODE_COUNT", "AZ_BATCHAI_MPI_MASTER_NODE")} == {
        "AZUREML_EXPERIMENT_NAME": "jobs", "AZUREML_ARM_PROJECT_NAME": "jobs", "AZUREML_PROCESS_NAME": "main",
        "AZUREML_CR_NODE_RANK": "0", "AZUREML_NODE_COUNT": "1", "AZ_BATCHAI_MPI_MASTER_NODE": "localhost",
    }  # fmt: skip
    assert found["AZURE_ML_OUTPUT_out"].endswith("/outputs/out")
    assert "MLFLOW_RUN_ID" not in found
    assert "AZURE_ML_INPUT_n" not in found


def test_steps_get_added_variables_that_are_no_part_of_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = tmp_path / "handed.json"
    monkeypatch.setenv("MLOPS_STEP_VARIABLES", str(handed))
    write(project / "part.yml", component("env > ${{outputs.out}}", {}, outputs={"out": "uri_file"}))
    steps = {name: {"component": "./part.yml", "environment_variables": {"OWN": name}} for name in ("a", "b")}
    file = write(project / "job.yml", pipeline(steps))
    handed.write_text(json.dumps({"": {"WHO": "all", "OWN": "handed"}, "a": {"WHO": "first"}}))
    ended = run(file)
    for name, who in (("a", "first"), ("b", "all")):
        found = dict(line.split("=", 1) for line in output(ended, name).read_text().splitlines() if "=" in line)
        assert (found["WHO"], found["OWN"], "MLOPS_STEP_VARIABLES" in found) == (who, name, False)
    handed.write_text(json.dumps({"": {"WHO": "somebody else"}}))
    assert statuses(run(file)) == {"a": "Reused", "b": "Reused"}


def test_working_copy_of_a_code_folder(project: Path) -> None:
    code = project / "code"
    write(code / "kept.txt", "x")
    write(code / "big.bin", "x")
    write(code / "sub" / "deep.txt", "x")
    write(code / "__pycache__" / "a.pyc", "x")
    write(code / ".git" / "config", "x")
    write(project / "shared" / "lib.txt", "x")
    write(project / "shared" / "skip.tmp", "x")
    write(project / "shared" / ".gitignore", "*.tmp\n")
    write(project / "note.txt", "x")
    (code / "linked").symlink_to(project / "shared", target_is_directory=True)
    (code / "round").symlink_to(code, target_is_directory=True)
    (code / "broken").symlink_to(code / "nowhere")
    write(code / ".gitignore", "*.bin\n")
    part = component("find . -type f | sort > ${{outputs.out}} && bash step.sh && rm step.sh && touch new.txt",
                     outputs={"out": "uri_file"}, code="./code",
                     additional_includes=["./shared", "./note.txt"])  # fmt: skip
    write(project / "part.yml", part)
    file = write(project / "job.yml", pipeline({"a": {"component": "./part.yml"}}))
    listed = text(run(file), "a").split("\n")
    linked = ["./linked/.gitignore", "./linked/lib.txt", "./linked/skip.tmp"]
    assert listed == sorted(["./.gitignore", "./kept.txt", *linked, "./note.txt", "./shared/.gitignore",
                             "./shared/lib.txt", "./step.sh", "./sub/deep.txt"])  # fmt: skip
    assert (code / "step.sh").is_file()
    assert not (code / "new.txt").exists()
    write(code / ".amlignore", "sub/\n.gitignore\nlinked\n")  # takes the place of .gitignore
    listed = text(run(file), "a").split("\n")
    assert listed == sorted(["./.amlignore", "./big.bin", "./kept.txt", "./note.txt", "./shared/.gitignore",
                             "./shared/lib.txt", "./step.sh"])  # fmt: skip


def test_results_within_the_code_are_no_code(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(project / "outputs"))
    file = write(project / "job.yml", command_job("find . -type f > ${{outputs.out}}", {"out": "uri_file"}, code="."))
    assert "./outputs" not in text(run(file), "job")
    assert statuses(run(file)) == {"job": "Reused"}


def test_code_in_a_single_file(project: Path) -> None:
    file = write(project / "job.yml", command_job("ls > ${{outputs.out}}", {"out": "uri_file"}, code="code/step.sh"))
    assert text(run(file), "job") == "logs\noutputs\nstep.sh"


@pytest.mark.parametrize(
    ("includes", "message"),
    [
        (["./nowhere"], "nowhere is not on this machine"),
        (["./other/step.sh"], "its code and an additional include both contain 'step.sh'"),
        (["./other", "./more/other"], "its code and an additional include both contain 'other'"),
    ],
)
def test_includes_that_cannot_be_put_together(project: Path, includes: list[str], message: str) -> None:
    write(project / "other" / "step.sh", "x")
    write(project / "more" / "other" / "x", "x")
    write(project / "part.yml", component("ls", code="./code", additional_includes=includes))
    with pytest.raises(PipelineError, match=message):
        run(write(project / "job.yml", pipeline({"a": {"component": "./part.yml"}})))
    assert not (paths.home() / "jobs").exists()


def test_each_step_has_its_own_working_copy(project: Path) -> None:
    one = command("ls > ${{outputs.out}}; touch mine; sleep 0.3; ls", {"out": "uri_file"}, code="./code")
    ended = run(
        write(project / "job.yml", pipeline({"a": one, "b": one | {"environment_variables": {"B": "1"}}})), jobs=2
    )
    assert text(ended, "a") == text(ended, "b") == "logs\noutputs\nstep.sh"


def test_what_only_azure_needs_is_recorded(project: Path) -> None:
    step = command("true", compute="azureml:gpu", resources={"instance_count": 2, "shm_size": "2g"},
                   identity={"type": "user_identity"}, services={"board": {"type": "tensor_board"}},
                   queue_settings={"job_tier": "spot"})  # fmt: skip
    file = write(project / "job.yml", pipeline({"a": step}, compute="azureml:cpu", tags={"team": "x"}))
    ended = run(file, name="recorded")
    saved = state("recorded")
    assert ended.state.status == "Completed"
    assert saved["unused"][""]["compute"] == "azureml:cpu"
    assert set(saved["unused"]["a"]) >= {
        "compute",
        "resources",
        "identity",
        "services",
        "queue_settings",
        "environment",
    }
    assert json.loads(saved["unused"]["a"]["resources"])["instance_count"] == 2
    assert saved["tags"] == {"team": "x"}


@pytest.mark.slow
def test_valid_project_as_far_as_it_can_run(tmp_path: Path) -> None:
    """The job of the definitions that all other tests start from; the others need a service or a trial's MLflow."""
    from testing.support.definitions import write_project

    project = write_project(tmp_path / "project")
    write(
        project / "code" / "prep.py", "import pathlib, sys\npathlib.Path(sys.argv[-1], 'x').write_text(sys.argv[1])\n"
    )
    write(project / "data.csv", "1")
    done = mlops("job", "run", project / "job.yml", "--set", "inputs.raw=data.csv", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["outputs"]["out"]
    assert (Path(made) / "x").read_text() == str(project / "data.csv")
    done = mlops("job", "run", project / "pipeline.yml")
    assert done.returncode == 2
    assert "the command 'fit' does not exist on this machine" in done.stderr
    tool = write(tmp_path / "bin" / "fit", "#!/bin/sh\neval last=\\$$#\ntouch $last/weights\n")
    tool.chmod(0o755)
    write(project / "code" / "prep.py", "import pathlib, sys\npathlib.Path(sys.argv[-2], 'x').write_text('')\n"
                                        "pathlib.Path(sys.argv[-1]).write_text('')\n")  # fmt: skip
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    done = mlops("job", "run", project / "pipeline.yml", "--json", PATH=path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    place = paths.home() / "datastores" / "workspaceblobstore" / found["name"] / "model"
    assert found["outputs"] == {"model": str(place)}
    assert (place / "weights").is_file()
    shutil.rmtree(project)


def test_optional_inputs_and_defaults_through_nested_pipelines(project: Path) -> None:
    declared = {
        "data": {"type": "uri_folder", "optional": True},
        "word": {"type": "string", "optional": True},
        "n": {"type": "integer", "default": 1},
    }
    shown = "echo n=${{inputs.n}} $[[word=${{inputs.word}}]] $[[--data ${{inputs.data}}]] $VAR > ${{outputs.out}}"
    variables = {"VAR": "$[[<${{inputs.word}}>]]"}
    write(
        project / "part.yml", component(shown, declared, outputs={"out": "uri_file"}, environment_variables=variables)
    )
    inner = {
        "$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner", "version": 1,
        "inputs": {**declared, "n": {"type": "integer", "default": 5}},
        "jobs": {"deep": {"component": "./part.yml", "inputs": {key: f"${{{{parent.inputs.{key}}}}}" for key in declared}}},
    }  # fmt: skip
    write(project / "inner.yml", inner)
    given = {"data": {"type": "uri_folder", "path": "./data"}, "word": "w", "n": "${{parent.inputs.n}}"}
    jobs = {
        "bare": {"type": "pipeline", "component": "./inner.yml"},
        "full": {"type": "pipeline", "component": "./inner.yml", "inputs": given},
    }
    ended = run(write(project / "job.yml", pipeline(jobs, inputs={"n": 9})))
    assert text(ended, "bare/deep") == "n=5"
    assert text(ended, "full/deep") == f"n=9 word=w --data {project / 'data'} <w>"


@pytest.mark.parametrize(
    "path", ["file:./data", "file:data", "file://{project}/data", "{project}/data", "./data/../data"]
)
def test_ways_to_write_a_local_path(project: Path, path: str) -> None:
    given = {
        "type": "uri_folder",
        "path": path.format(project=str(project).replace(" ", "%20") if "//" in path else project),
    }
    job = command_job("ls ${{inputs.x}} > ${{outputs.out}}", {"out": "uri_file"}, inputs={"x": given})
    assert text(run(write(project / "job.yml", job)), "job") == "a b.csv\ndeep"


def test_paths_are_relative_to_the_file_that_they_stand_in(project: Path) -> None:
    write(project / "parts" / "near" / "x", "near")
    part = component("cat ${{inputs.x}}/x > ${{outputs.out}}", {"x": {"type": "uri_folder", "path": "./near"}},
                     outputs={"out": "uri_file"})  # fmt: skip
    write(project / "parts" / "part.yml", part)
    job = pipeline({"a": {"component": "./parts/part.yml"}})
    assert text(run(write(project / "job.yml", job)), "a") == "near"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x ${{parent.inputs.data}}", "only values can be part of a text"),
        ("${{parent.inputs.nothing}}", "has no input"),
    ],
)
def test_texts_that_cannot_be_put_together(project: Path, given: str, message: str) -> None:
    job = pipeline({"a": command("echo ${{inputs.x}}", inputs={"x": given})},
                   inputs={"data": {"type": "uri_folder", "path": "./data"}})  # fmt: skip
    with pytest.raises(PipelineError, match=message):
        run(write(project / "job.yml", job))


def test_a_variable_of_an_input_that_nobody_gives(project: Path) -> None:
    inner = {
        "$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner", "version": 1,
        "inputs": {"word": {"type": "string", "optional": True}},
        "jobs": {"deep": {"component": "./part.yml", "environment_variables": {"A": "<${{parent.inputs.word}}>"}}},
    }  # fmt: skip
    write(project / "part.yml", component("echo $A"))
    write(project / "inner.yml", inner)
    with pytest.raises(PipelineError, match=r"parent.inputs.word.* has no value"):
        run(write(project / "job.yml", pipeline({"a": {"type": "pipeline", "component": "./inner.yml"}})))
