"""What Azure tolerates runs here, with a warning; and what only Azure runs is refused here in one line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from testing.support.jobs import SCHEMA, Lines, command, command_job, component, mlops, pipeline, run, text, write

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.linter.linter import lint
from vision_mlops.jobs.definitions.plan.planner import plan

pytestmark = pytest.mark.usefixtures("without_mlflow")
PLACED = {"default_compute": "azureml:c"}
READ = component("ls ${{inputs.data}} > ${{outputs.out}}", {"data": "uri_folder"}, outputs={"out": "uri_file"})


def warnings(lines: Lines) -> list[str]:
    return [line for line in lines.all if line.startswith("warning: ")]


def ran(file: Path, rule: str, *words: str) -> tuple[Any, str]:
    """Run a job that has one finding, a warning of a rule; returns the job and what was said of the warning."""
    (finding,) = lint([file])
    assert (finding.rule, str(finding.severity)) == (rule, "warning")
    lines = Lines()
    ended = run(file, lines=lines)
    assert ended.state.status == "Completed"
    (said,) = warnings(lines)
    assert all(word in said for word in words)
    assert f"{file.name}:{finding.line}:" in said
    return ended, said


def test_a_file_is_given_for_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.txt", "salt")
    write(tmp_path / "read.yml", READ)
    data = {"type": "uri_file", "path": "./in/a.txt"}
    for given, inputs in (("${{parent.inputs.data}}", {"data": data}), (data, {})):
        job = pipeline({"one": {"component": "./read.yml", "inputs": {"data": given}}}, inputs=inputs,
                       settings=PLACED)  # fmt: skip
        ended, _ = ran(write(tmp_path / "job.yml", job), "data-type", "'data' is of type uri_folder", "uri_file")
        assert text(ended, "one").endswith("in/a.txt")


@pytest.mark.parametrize(("made", "wanted"), [("uri_file", "uri_folder"), ("uri_folder", "uri_file")])
def test_what_a_step_writes_is_given_as_the_other_kind(tmp_path: Path, made: str, wanted: str) -> None:
    writes = (
        "echo x > ${{outputs.out}}" if made == "uri_file" else "mkdir -p ${{outputs.out}}; echo x > ${{outputs.out}}/x"
    )
    write(tmp_path / "read.yml", {**READ, "inputs": {"data": {"type": wanted}}})
    job = pipeline(
        {
            "one": command(writes, {"out": made}),
            "two": {"component": "./read.yml", "inputs": {"data": "${{parent.jobs.one.outputs.out}}"}},
        },
        settings=PLACED,
    )
    ended, _ = ran(write(tmp_path / "job.yml", job), "data-type", made, wanted)
    assert text(ended, "two")


def test_an_output_is_declared_as_the_other_kind(tmp_path: Path) -> None:
    step = command("mkdir -p ${{outputs.out}}; echo x > ${{outputs.out}}/x", outputs=None)
    step["outputs"] = {"out": "${{parent.outputs.result}}"}
    job = pipeline({"one": step}, outputs={"result": {"type": "uri_file"}}, settings=PLACED)
    ended, _ = ran(write(tmp_path / "job.yml", job), "data-type", "uri_folder", "uri_file")
    assert (Path(ended.state.outputs["result"]) / "x").read_text() == "x\n"


def test_a_key_of_settings_is_read_over(tmp_path: Path) -> None:
    settings = {"default_compute": "azureml:c", "default_datastor": "azureml:workspaceblobstore"}
    job = pipeline({"one": command("true")}, settings=settings)
    ran(write(tmp_path / "job.yml", job), "ignored-key", "'default_datastor'")


def test_surplus_inputs_of_steps_are_left_out(tmp_path: Path) -> None:
    counted = "echo $[[${{inputs.text}}]]; env | grep -c AZURE_ML_INPUT_ > ${{outputs.out}} || true"
    part = component(counted, {"text": {"type": "string", "optional": True}}, outputs={"out": "uri_file"})
    write(tmp_path / "part.yml", part)
    write(tmp_path / "data" / "x", "x")
    extra = {"type": "uri_folder", "path": "./data"}
    job = pipeline({"one": {"component": "./part.yml", "inputs": {"text": "hi", "extra": extra}}},
                   settings=PLACED)  # fmt: skip
    ended, _ = ran(write(tmp_path / "job.yml", job), "surplus-input", "'extra'", "left out")
    assert text(ended, "one") == "0"


def test_surplus_inputs_of_nested_pipelines_are_left_out(tmp_path: Path) -> None:
    inner = {"$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner",
             "jobs": {"one": command("true")}}  # fmt: skip
    write(tmp_path / "inner.yml", inner)
    job = pipeline({"outer": {"type": "pipeline", "component": "./inner.yml", "inputs": {"extra": 1}}},
                   settings=PLACED)  # fmt: skip
    ran(write(tmp_path / "job.yml", job), "surplus-input", "'extra'")


@pytest.mark.parametrize("marked", [True, False])
def test_code_outside_of_the_folder_of_the_definition(tmp_path: Path, marked: bool) -> None:
    write(tmp_path / "src" / "p.sh", "echo ran")
    file = write(
        tmp_path / "jobs" / "j.yml", command_job("sh p.sh > ${{outputs.out}}", {"out": "uri_file"}, code="../src")
    )
    if marked:  # the folder of the definition is a project of its own
        write(file.parent / "pyproject.toml", "")
        ended, _ = ran(file, "path", "'../src' is outside of the project jobs")
    else:
        assert not list(lint([file]))
        ended = run(file)
    assert text(ended, "j") == "ran"


def test_code_at_an_absolute_path(tmp_path: Path) -> None:
    write(tmp_path / "src" / "p.sh", "echo ran")
    code = str(tmp_path / "src")
    file = write(tmp_path / "jobs" / "j.yml", command_job("sh p.sh > ${{outputs.out}}", {"out": "uri_file"}, code=code))
    ended, _ = ran(file, "path", "is an absolute path")
    assert text(ended, "j") == "ran"


def test_words_that_yaml_reads_as_truth_values(tmp_path: Path) -> None:
    job = command_job("echo $T > ${{outputs.out}}", {"out": "uri_file"})
    file = write(tmp_path / "j.yml", job)
    file.write_text(file.read_text() + "environment_variables: {T: no}\n")
    ended, _ = ran(file, "text-value", "environment variable 'T'", "reads no as False")
    assert text(ended, "j") == "False"
    assert not warnings(lines := Lines())
    assert text(run(file, "environment_variables.T=no", lines=lines), "j") == "no"
    assert not warnings(lines)


def test_inputs_with_dashes_in_a_command_job(tmp_path: Path) -> None:
    job = command_job("echo ${{inputs.n-2}} > ${{outputs.out}}", {"out": "uri_file"}, inputs={"n-2": 4})
    ended, _ = ran(write(tmp_path / "j.yml", job), "input-name", "'n-2'")
    assert text(ended, "j") == "4"


def test_values_that_are_not_in_the_enum(tmp_path: Path) -> None:
    kind = {"type": "string", "enum": ["red", "green"]}
    write(
        tmp_path / "part.yml",
        component("echo ${{inputs.kind}} > ${{outputs.out}}", {"kind": kind}, outputs={"out": "uri_file"}),
    )
    job = pipeline({"one": {"component": "./part.yml", "inputs": {"kind": "blue"}}}, settings=PLACED)
    ended, _ = ran(write(tmp_path / "job.yml", job), "input-enum", "'blue'")
    assert text(ended, "one") == "blue"


def test_the_last_of_two_equal_keys_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "j.yml", command_job("echo first", {"out": "uri_file"}))
    file.write_text(file.read_text() + "command: echo last > ${{outputs.out}}\n")
    ended, _ = ran(file, "duplicate-key", "'command' is given twice")
    assert text(ended, "j") == "last"


def test_numbers_and_truth_values_as_text(tmp_path: Path) -> None:
    part = component("echo ${{inputs.n}} > ${{outputs.out}}", {"n": {"type": "integer", "min": "0", "optional": "false"}},
                     outputs={"out": "uri_file"}, is_deterministic="no")  # fmt: skip
    write(tmp_path / "part.yml", part)
    step = {"component": "./part.yml", "inputs": {"n": "3"}, "limits": {"timeout": "60"},
            "resources": {"instance_count": "1"}}  # fmt: skip
    job = pipeline({"one": step}, settings={"default_compute": "azureml:c", "force_rerun": "true"})
    file = write(tmp_path / "job.yml", job)
    assert not list(lint([file]))
    ended = run(file)
    assert text(ended, "one") == "3"


def test_default_artifacts_of_a_step_may_be_bound(tmp_path: Path) -> None:
    write(tmp_path / "read.yml", READ)
    job = pipeline(
        {
            "one": command("true"),
            "two": {"component": "./read.yml", "inputs": {"data": "${{parent.jobs.one.outputs.artifacts}}"}},
        },
        settings=PLACED,
    )
    (finding,) = lint([write(tmp_path / "job.yml", job)])
    assert (finding.rule, finding.severity) == ("artifacts", "warning"), "the SDK refuses it"
    job["jobs"]["one"]["outputs"] = {"artifacts": None}
    assert not list(lint([write(tmp_path / "job.yml", job)]))


def test_what_the_sdk_takes_is_no_error(tmp_path: Path) -> None:
    """Words in capitals, keys of a job that has run, and those that few know."""
    trial = {"command": "echo ${{search_space.x}}", "environment": "azureml:e:1"}
    sweep = {"$schema": f"{SCHEMA}/sweepJob.schema.json", "type": "sweep", "trial": trial, "compute": "azureml:c",
             "search_space": {"x": {"type": "Uniform", "min_value": 0, "max_value": 1}}, "sampling_algorithm": "Random",
             "limits": {"max_total_trials": 2}, "objective": {"goal": "Maximize", "primary_metric": "m"},
             "early_termination": {"type": "Median_Stopping"}}  # fmt: skip
    job = {**command_job("true"), "parent_job_name": "other", "distribution": {"type": "PyTorch"},
           "identity": {"type": "UserIdentity"}, "queue_settings": {"job_tier": "Spot"}}  # fmt: skip
    part = {"command": "true", "environment": {"image": "i", "os_type": "Linux", "datastore": "d"}}
    for name, content in (("sweep", sweep), ("job", job), ("other", {**job, **part})):
        assert not list(lint([write(tmp_path / f"{name}.yml", content)])), name
    run_before = {**job, "status": "Completed", "creation_context": {"created_at": "2026"}, "id": "azureml:x"}
    assert {item.rule for item in lint([write(tmp_path / "job.yml", run_before)])} == {"ignored-key"}


def test_a_monitor_is_no_schedule_of_a_job(tmp_path: Path) -> None:
    monitor: dict[str, Any] = {"$schema": f"{SCHEMA}/schedule.schema.json", "name": "watch",
               "trigger": {"type": "recurrence", "frequency": "day", "interval": 1},
               "create_monitor": {"compute": {"instance_type": "standard_e4s_v3", "runtime_version": "3.4"},
                                  "monitoring_target": {"ml_task": "classification",
                                                        "endpoint_deployment_id": "azureml:e:d"},
                                  "alert_notification": "azmonitoring"}}  # fmt: skip
    file = write(tmp_path / "monitor.yml", monitor)
    assert not list(lint([file]))
    from vision_mlops.jobs.azureml.sdk_check import sdk_problems

    assert not list(lint([file], sdk=sdk_problems))
    del monitor["create_monitor"]["compute"]["instance_type"]
    (finding,) = lint([write(file, monitor)], sdk=sdk_problems)
    assert finding.rule == "sdk"
    both = {**monitor, "create_job": "azureml:j:1"}
    assert [item.message for item in lint([write(file, both)])] == ["a schedule has both create_job and create_monitor"]


def test_a_parallel_step_that_does_not_say_what_it_splits_is_refused_here(tmp_path: Path) -> None:
    write(tmp_path / "code" / "score.py", "def init(): pass\ndef run(batch): return batch\n")
    write(tmp_path / "data" / "a.txt", "a")
    task = {"type": "run_function", "code": "./code", "entry_script": "score.py", "environment": "azureml:e:1"}
    step = {"type": "parallel", "task": task, "mini_batch_size": "1",
            "inputs": {"data": {"type": "uri_folder", "path": "./data"}}}  # fmt: skip
    file = write(tmp_path / "job.yml", pipeline({"a": step}, settings=PLACED))
    assert {(item.rule, item.severity) for item in lint([file])} == {
        ("mini-batches", "warning"),
        ("unused-input", "warning"),
    }
    with pytest.raises(PipelineError, match="no input_data says which input of a parallel step is split"):
        run(file)


def test_a_job_may_have_its_steps_from_a_component(tmp_path: Path) -> None:
    step = {
        **command("echo ${{inputs.word}} > ${{outputs.out}}", compute="azureml:c"),
        "inputs": {"word": "${{parent.inputs.word}}"},
        "outputs": {"out": {"type": "uri_file", "path": "${{parent.outputs.out}}"}},
    }
    inner = {"$schema": f"{SCHEMA}/pipelineComponent.schema.json", "type": "pipeline", "name": "inner",
             "inputs": {"word": {"type": "string"}}, "outputs": {"out": {"type": "uri_file"}},
             "jobs": {"one": step}}  # fmt: skip
    write(tmp_path / "inner.yml", inner)
    job = {"$schema": f"{SCHEMA}/pipelineJob.schema.json", "type": "pipeline", "component": "./inner.yml",
           "inputs": {"word": "hi"}, "compute": "azureml:c"}  # fmt: skip
    file = write(tmp_path / "job.yml", job)
    (planned,) = plan(file)
    assert (planned.step, planned.inputs) == ("one", {"word": "hi"})
    write(file, {**job, "inputs": {}})
    with pytest.raises(PipelineError, match=r"the component: the input 'word' \(string\) is missing"):
        run(file)
    write(file, job)
    assert Path(run(file).state.outputs["out"]).read_text() == "hi\n"


AUTOML: dict[str, Any] = {
    "type": "automl", "task": "image_classification", "primary_metric": "accuracy", "target_column_name": "label",
    "training_data": {"type": "mltable", "path": "azureml:images:1"}, "compute": "azureml:gpu",
    "limits": {"max_trials": 2},
}  # fmt: skip
SPARK: dict[str, Any] = {
    "type": "spark", "code": "./src", "entry": {"file": "p.py"}, "args": "--out ${{outputs.out}}",
    "conf": {"spark.driver.cores": 1, "spark.driver.memory": "2g", "spark.executor.cores": 2,
             "spark.executor.memory": "2g", "spark.executor.instances": 2},
    "outputs": {"out": {"type": "uri_folder", "mode": "direct", "path": "azureml://datastores/workspaceblobstore/paths/x/"}},
    "resources": {"instance_type": "standard_e4s_v3", "runtime_version": "3.4"},
}  # fmt: skip
LOOP: dict[str, Any] = {
    "type": "do_while", "body": "${{parent.jobs.a}}", "condition": "more", "mapping": {"n": "n"},
    "limits": {"max_iteration_count": 3},
}  # fmt: skip
HERE = "on this machine `mlops run --workload NAME` trains an image classifier"
IMAGES = "an automl job for image_classification needs Azure"


def schema(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """A definition with its $schema."""
    return {"$schema": f"{SCHEMA}/{kind}.schema.json", **content}


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (schema("autoMLJob", AUTOML), IMAGES, HERE),
        (AUTOML, IMAGES, HERE),
        ({**AUTOML, "task": "regression"}, "an automl job for regression needs Azure", "add --on azure"),
        (schema("sparkJob", SPARK), "a spark job needs Azure", "add --on azure"),
        ({"type": "import", "source": {}, "output": {}}, "an import job needs Azure", "add --on azure"),
        (pipeline({"a": command("true"), "best": AUTOML}), "step 'best': an automl step for image_classification", HERE),
        (pipeline({"s": SPARK}), "step 's': a spark step needs Azure", "add --on azure"),
        (pipeline({"c": {"type": "data_transfer", "task": "copy_data"}}), "'c': a data_transfer step needs", "on azure"),
        (pipeline({"a": command("true"), "l": LOOP}), "step 'l': a do_while step needs Azure", "add --on azure"),
        (schema("managedOnlineDeployment", {"name": "blue"}), "defines a managedOnlineDeployment",
         "az ml online-deployment create --file"),
        (schema("batchEndpoint", {"name": "scores"}), "defines a batchEndpoint", "mlops deploy --to batch"),
    ],
)  # fmt: skip
def test_what_only_azure_runs_is_known_and_refused_here(tmp_path: Path, content: Any, message: str, hint: str) -> None:
    write(tmp_path / "src" / "p.py", "")
    file = write(tmp_path / "job.yml", content)
    assert not lint([file]).errors
    done = mlops("job", "run", str(file))
    assert done.returncode == 2
    assert message in done.stderr
    assert hint in done.stderr
    assert done.stderr.count("\n") == 2


def test_steps_that_only_azure_runs_are_shown_and_their_bindings_checked(tmp_path: Path) -> None:
    inputs = {"images": {"type": "mltable", "path": "azureml:images:1"}}
    best = {**AUTOML, "training_data": "${{parent.inputs.images}}", "outputs": {"best_model": {"type": "mlflow_model"}}}
    write(tmp_path / "read.yml", READ)
    after = {"component": "./read.yml", "inputs": {"data": "${{parent.jobs.best.outputs.best_model}}"}}
    job = pipeline({"after": after, "best": best}, inputs=inputs, settings=PLACED)
    file = write(tmp_path / "job.yml", job)
    assert not list(lint([file]))
    assert [(step.step, step.type) for step in plan(file)] == [("best", "automl"), ("after", "command")]
    best["training_data"] = "${{parent.inputs.imges}}"
    assert [item.rule for item in lint([write(file, job)]).errors] == ["unknown-input"]


COUNTED = """\
name: counted
type: command
inputs: {n: {type: integer}}
outputs: {more: {type: boolean}, next: {type: integer}, data: {type: uri_folder}}
command: echo ${{inputs.n}} ${{outputs.data}}
environment: azureml:e:1
"""
CONTROL: dict[str, dict[str, Any]] = {
    "while": {**LOOP, "mapping": {"next": "n"}},
    "for": {"type": "parallel_for", "body": "${{parent.jobs.b}}", "items": [{"n": 1}, {"n": 2}]},
    "for of a text": {"type": "parallel_for", "body": "${{parent.jobs.b}}", "items": '[{"n": 1}]'},
    "for of an input": {"type": "parallel_for", "body": "${{parent.jobs.b}}", "items": "${{parent.inputs.rows}}"},
    "if": {"type": "if_else", "condition": "${{parent.jobs.a.outputs.more}}", "true_block": ["${{parent.jobs.c}}"]},
}


@pytest.mark.parametrize(
    ("name", "change", "rule", "message"),
    [
        ("while", {}, "", ""), ("for", {}, "", ""), ("for of a text", {}, "", ""), ("for of an input", {}, "", ""),
        ("if", {}, "", ""),
        ("while", {"body": "${{parent.jobs.aa}}"}, "unknown-job", "step 'x': body names 'aa'"),
        ("while", {"body": "a"}, "binding", "step 'x': body is 'a', which does not name a step"),
        ("if", {"false_block": "${{parent.jobs.cc}}"}, "unknown-job", "false_block names 'cc', but the pipeline has no"),
        ("if", {"condition": "${{parent.jobs.a.outputs.mor}}"}, "unknown-output", "step 'a' has no output 'mor'"),
        ("for", {"items": [{"m": 1}]}, "missing-input", "step 'b': the input 'n' (integer) is missing"),
        ("if", {"true_block": None}, "value", "an if_else step has neither true_block nor false_block"),
    ],
)  # fmt: skip
def test_loops_and_branches_are_known(
    tmp_path: Path, name: str, change: dict[str, Any], rule: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_mlops.jobs.azureml.sdk_check import sdk_problems

    monkeypatch.delenv("AZURE_ML_CLI_PRIVATE_FEATURES_ENABLED", raising=False)
    write(tmp_path / "counted.yml", COUNTED)
    step = {"component": "./counted.yml"}
    x = {key: value for key, value in {**CONTROL[name], **change}.items() if value is not None}
    jobs = {"a": {**step, "inputs": {"n": 1}}, "c": {**step, "inputs": {"n": 1}}, "x": x}
    job = pipeline({**jobs, **({"b": step} if name.startswith("for") else {})}, settings=PLACED)
    if name == "for of an input":
        job["inputs"] = {"rows": "[]"}
    findings = lint([write(tmp_path / "job.yml", job)], sdk=sdk_problems)
    assert [(item.rule, message in item.message) for item in findings.errors] == ([(rule, True)] if rule else [])
    assert rule == "value" or "private-preview" in [item.rule for item in findings]


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (schema("autoMLJob", AUTOML), ("limits", "max_trails"), "limits.max_trails: Unknown field"),
        (schema("sparkJob", SPARK), ("resources", "size"), "resources.size: Unknown field"),
        (pipeline({"s": SPARK}, settings=PLACED), ("jobs", "s", "resources", "size"), "Missing data for required field"),
        (schema("managedOnlineEndpoint", {"name": "e-one", "auth_mode": "key"}), ("auth",), "Unknown field"),
        (schema("managedOnlineDeployment", {"name": "blue", "endpoint_name": "e", "model": "azureml:m:1",
                                            "instance_type": "Standard_DS3_v2", "instance_count": 1}),
         ("instances",), "Unknown field"),
    ],
)  # fmt: skip
def test_the_sdk_is_asked_about_keys_of_what_only_azure_runs(
    tmp_path: Path, content: dict[str, Any], keys: tuple[str, ...], message: str
) -> None:
    from vision_mlops.jobs.azureml.sdk_check import is_installed, sdk_problems

    if not is_installed():
        pytest.skip("azure-ai-ml is not installed")
    write(tmp_path / "src" / "p.py", "")
    file = write(tmp_path / "job.yml", content)
    assert [str(item) for item in lint([file], sdk=sdk_problems).errors] == []
    content = copy.deepcopy(content)
    node = content
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = 1
    (error,) = lint([write(file, content)], sdk=sdk_problems).errors
    assert error.rule == "sdk"
    assert message in error.message
    lines = file.read_text(encoding="utf-8").splitlines()
    assert error.line <= 1 + next(n for n, item in enumerate(lines) if item.strip() == f"{keys[-1]}: 1")
    assert error.line > 1, "what the SDK names is a key of the file, here the step"


def test_all_that_the_sdk_says_is_told_at_its_line(tmp_path: Path) -> None:
    """And of each file, whatever is wrong with the others."""
    from vision_mlops.jobs.azureml.sdk_check import sdk_problems

    wrong = {**AUTOML, "log_verbosity": "loud", "limits": {**AUTOML.get("limits", {}), "max_trials": "many"}}
    files = [write(tmp_path / f"{name}.yml", schema("autoMLJob", wrong)) for name in ("a", "b")]
    lines = files[0].read_text(encoding="utf-8").splitlines()
    found = lint(files, sdk=sdk_problems).errors
    assert {(item.file, lines[item.line - 1].strip()) for item in found} == {
        (str(file), text) for file in files for text in ("log_verbosity: loud", "max_trials: many")
    }


@pytest.mark.parametrize(
    ("content", "what", "command"),
    [
        ({"$schema": f"{SCHEMA}/amlCompute.schema.json", "name": "c"}, "a compute target", "az ml compute create"),
        ({"name": "c", "type": "amlcompute"}, "a compute target", "az ml compute create"),
        ({"name": "d", "type": "azure_blob", "account_name": "a"}, "a datastore", "az ml datastore create"),
        ({"name": "x", "type": "uri_folder", "source": {"type": "file_system"}, "path": "azureml://datastores/d/paths/x"},
         "an import of data", "az ml data import"),
    ],
)  # fmt: skip
def test_what_is_no_job_is_called_what_it_is(tmp_path: Path, content: dict[str, Any], what: str, command: str) -> None:
    (finding,) = lint([write(tmp_path / "x.yml", content)])
    assert (finding.rule, finding.message) == ("kind", f"the file defines {what}, not a job")
    assert command in finding.suggestion
