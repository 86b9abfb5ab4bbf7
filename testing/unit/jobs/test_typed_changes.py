"""Values of `--set`: read by the type of their target, and never taken for YAML where text is wanted."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from strictyaml import ruamel  # type: ignore[import-untyped]
from testing.support.jobs import SCHEMA, command, command_job, component, pipeline, write

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.yaml_text import write_yaml
from vision_mlops.jobs.definitions.definition import JOBS
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter.linter import Linter
from vision_mlops.jobs.definitions.overrides import parse_changes
from vision_mlops.jobs.definitions.plan.nodes import DataInput, JobPlan, Source, Value
from vision_mlops.jobs.definitions.plan.planner import resolve

# What YAML reads as something else, or not at all.
TEXTS = [
    "no", "On", "yes", "null", "~", "", "010", "1_000", "0x10", "0o10", "1e3", "12:30:00", "2026-11-29", " leading",
    "trailing ", "a #b", "#", "- x", "{a}", "{type: uri_folder}", "[1", "*x", "&x", "!x", "%x", "@x", "`x`", "a: b", "a:",
    "'", '"', "'no'", "日本", "true", "9" * 5000,
]  # fmt: skip


def plan(file: Path, *changes: str) -> JobPlan:
    return resolve(file, changes=parse_changes(changes, file.parent))


def content(file: Path, *changes: str) -> dict[str, Any]:
    """The file as Azure ML's SDK gets it."""
    return dict(Linter(file, Findings(), changes=parse_changes(changes, file.parent)).checked(JOBS).node)


def given(ended: JobPlan, step: str, name: str) -> Source:
    return next(node for node in ended.nodes if node.step == step).inputs[name]


def value(ended: JobPlan, step: str, name: str) -> str:
    found = given(ended, step, name)
    assert isinstance(found, Value)
    return found.text


def path(ended: JobPlan, step: str, name: str) -> str:
    found = given(ended, step, name)
    assert isinstance(found, DataInput)
    return found.path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A job whose inputs have no declared types."""
    text = "echo ${{inputs.label}} ${{inputs.n}} ${{inputs.flag}} ${{inputs.long}} ${{inputs.data}}"
    inputs = {
        "label": "abc",
        "n": 3,
        "flag": True,
        "long": {"value": "abc"},
        "data": {"type": "uri_folder", "path": "lot"},
    }
    return write(tmp_path / "job.yml", command_job(text, inputs=inputs))


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """A pipeline whose component declares types, also of inputs that look otherwise in the pipeline."""
    ports = {"text": {"type": "string", "default": "x"}, "whole": {"type": "integer", "default": 1},
             "number": {"type": "number", "default": 1}, "flag": {"type": "boolean", "default": False},
             "data": {"type": "uri_folder", "optional": True}}  # fmt: skip
    words = " ".join(f"${{{{inputs.{name}}}}}" for name in ports if name != "data")
    write(tmp_path / "part.yml", component(f"echo {words} $[[${{{{inputs.data}}}}]]", ports))
    step = {"component": "./part.yml", "inputs": {"text": "${{parent.inputs.version}}"}}
    return write(tmp_path / "pipeline.yml", pipeline({"a": step}, inputs={"version": 5}))


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_as_it_was_typed(bare: Path, declared: Path, text: str) -> None:
    name = plan(bare).nodes[0].step
    ended = plan(
        bare, f"inputs.label={text}", f"inputs.long={text}", f"tags.a={text}", f"environment_variables.E={text}"
    )
    assert (value(ended, name, "label"), value(ended, name, "long")) == (text, text)
    assert (ended.tags, ended.nodes[0].variables) == ({"a": text}, {"E": text})
    assert value(plan(declared, f"jobs.a.inputs.text={text}"), "a", "text") == text, "declared by the component"
    assert value(plan(declared, f"inputs.version={text}"), "a", "text") == text, "declared by who is given it"
    shown = plan(bare, f"display_name={text}", f"description={text}", f"experiment_name={text}")
    assert (shown.display_name, shown.experiment) == (text, text)


@pytest.mark.parametrize(
    "name", ["lot #2", "Client: A", "no", "010", " x", "- x", "{a}", "[1", "it's", "~x", "a:b", "*", "日本"]
)
def test_data_takes_the_text_as_its_path(bare: Path, declared: Path, name: str) -> None:
    (bare.parent / name).mkdir()
    wanted = os.path.normpath(bare.parent / name)
    job = plan(bare).nodes[0].step
    if not name.startswith("~"):  # a home folder
        assert path(plan(bare, f"inputs.data={name}"), job, "data") == wanted
        assert path(plan(declared, f"jobs.a.inputs.data={name}"), "a", "data") == wanted
    quoted = yaml.safe_dump(f"./{name}", default_style='"').strip()
    assert path(plan(bare, f"inputs.data={{type: uri_folder, path: {quoted}}}"), job, "data") == wanted
    assert path(plan(bare, f"inputs.data.path=./{name}"), job, "data") == wanted


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_a_boolean_is_sent_as_the_sdk_sends_it(bare: Path, declared: Path, text: str) -> None:
    assert value(plan(bare, f"inputs.flag={text}"), plan(bare).nodes[0].step, "flag") == "True"
    assert value(plan(declared, f"jobs.a.inputs.flag={text}"), "a", "flag") == "True"


@pytest.mark.parametrize(
    ("change", "name", "expected"),
    [
        ("jobs.a.inputs.whole=010", "whole", "10"),
        ("jobs.a.inputs.whole=7.0", "whole", "7"),
        ("jobs.a.inputs.number=1e-5", "number", "1e-05"),
        ("jobs.a.inputs.number=2", "number", "2"),
        ("jobs.a.inputs.number= .5", "number", "0.5"),
    ],
)
def test_numbers_by_their_declaration(declared: Path, change: str, name: str, expected: str) -> None:
    assert value(plan(declared, change), "a", name) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("jobs.a.inputs.whole=1.5", "'1.5' is not of type integer"),
        ("jobs.a.inputs.whole=1_000", "'1_000' is not of type integer"),
        ("jobs.a.inputs.number=0x10", "'0x10' is not of type number"),
        ("jobs.a.inputs.number=nan", "'nan' is not of type number"),
        ("jobs.a.inputs.number=1e999", "'1e999' is not of type number"),
        ("jobs.a.inputs.whole=no", "'no' is not of type integer"),
        ("jobs.a.inputs.flag=yes", "'yes' is not of type boolean"),
        ("jobs.a.inputs.flag=1", "'1' is not of type boolean"),
    ],
)
def test_another_type_is_an_error_with_key_value_and_type(declared: Path, change: str, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        plan(declared, change)
    assert (change in caught.value.message, message in caught.value.message) == (True, True), caught.value.message
    assert caught.value.hint.startswith("write ")


def test_a_value_without_declaration_has_the_type_of_the_one_it_replaces(bare: Path) -> None:
    assert value(plan(bare, "inputs.n=0.5"), plan(bare).nodes[0].step, "n") == "0.5"
    for change in ("inputs.n=no", "inputs.flag=no", "inputs.n=1_000"):
        with pytest.raises(PipelineError, match="is not of type"):
            plan(bare, change)


def test_keys_of_a_definition_have_the_types_of_the_models(tmp_path: Path) -> None:
    trial = {"command": "echo ${{search_space.x}}", "environment": "azureml:e:1"}
    sweep = {"$schema": f"{SCHEMA}/sweepJob.schema.json", "type": "sweep", "trial": trial, "compute": "azureml:c",
             "search_space": {"x": {"type": "uniform", "min_value": 0, "max_value": 1}}, "sampling_algorithm": "random",
             "objective": {"goal": "maximize", "primary_metric": "m"}, "limits": {"max_total_trials": 2}}  # fmt: skip
    file = write(tmp_path / "sweep.yml", sweep)
    found = content(file, "limits.max_total_trials=3", "search_space.x.min_value=1e-3", "objective.primary_metric=no",
                    "trial.environment_variables.A=010", "trial.command=echo ${{search_space.x}} # it's")  # fmt: skip
    assert (found["limits"]["max_total_trials"], found["search_space"]["x"]["min_value"]) == (3, 0.001)
    assert (found["objective"]["primary_metric"], found["trial"]["environment_variables"]) == ("no", {"A": "010"})
    assert found["trial"]["command"] == "echo ${{search_space.x}} # it's"
    found = content(file, "search_space.x={type: choice, values: ['no', 010]}")  # a mapping is YAML
    assert found["search_space"]["x"]["values"] == ["no", 8]
    job = write(tmp_path / "job.yml", pipeline({"a": command("echo a # b", {"out": "uri_file"})}, outputs={}))
    found = content(job, "settings.force_rerun=True", "jobs.a.command=echo #: {x} > ${{outputs.out}}", "tags={a: b}",
                    "jobs.a.limits.timeout=60", "jobs.a.outputs.out={type: uri_file, path: 'a #b'}")  # fmt: skip
    assert (found["settings"]["force_rerun"], found["tags"]) == (True, {"a": "b"})
    step = found["jobs"]["a"]
    assert (step["command"], step["limits"]["timeout"]) == ("echo #: {x} > ${{outputs.out}}", 60)
    assert step["outputs"]["out"]["path"] == str(tmp_path / "a #b")
    part = component("echo a", {}, limits={"timeout": 5})
    inner = write(tmp_path / "inner.yml", pipeline({"a": {"type": "command", "component": part}}))
    found = content(inner, "jobs.a.component.limits.timeout=60", "jobs.a.component.version=010",
                    "jobs.a.component.is_deterministic=False")  # fmt: skip
    part = found["jobs"]["a"]["component"]
    assert (part["limits"]["timeout"], part["version"], part["is_deterministic"]) == (60, "010", False)
    with pytest.raises(PipelineError, match="force_rerun: 'perhaps' is not true or false"):
        content(job, "settings.force_rerun=perhaps")


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_written_for_the_sdk_is_read_back_by_yaml_of_both_versions(text: str) -> None:
    written = write_yaml({"a": {"b": [text, text]}, "c": 1.0, "d": 1e-05, "e": None, "f": False})
    wanted = {"a": {"b": [text, text]}, "c": 1.0, "d": 1e-05, "e": None, "f": False}
    assert yaml.safe_load(written) == wanted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own age
        assert ruamel.YAML(typ="safe", pure=True).load(written) == wanted


@pytest.mark.parametrize(
    ("reference", "small"),
    [("AzureML:photos:1", "azureml:photos:1"), ("azureml:Photos@Latest", "azureml:Photos@latest"),
     ("AZUREML:photos@LATEST", "azureml:photos@latest"), ("AzureML:photos:V1", "azureml:photos:V1")],
)  # fmt: skip
def test_a_reference_in_capitals_gets_a_hint(tmp_path: Path, reference: str, small: str) -> None:
    job = command_job("ls ${{inputs.a}}", inputs={"a": {"type": "uri_folder", "path": reference}})
    findings = Findings()
    Linter(write(tmp_path / "job.yml", job), findings).file()
    assert [(item.rule, item.suggestion) for item in findings] == [("reference", f"write {small}")]
    Linter(
        write(tmp_path / "good.yml", {**job, "inputs": {"a": {"type": "uri_folder", "path": small}}}), findings
    ).file()
    assert len(findings) == 1


def test_bounds_of_a_search_space_may_be_text_and_a_hint_fits_them(tmp_path: Path) -> None:
    trial = {"command": "echo ${{search_space.x}}", "environment": "azureml:e:1"}

    def lint(**space: Any) -> list[tuple[str, str]]:
        job = {"$schema": f"{SCHEMA}/sweepJob.schema.json", "type": "sweep", "trial": trial, "compute": "azureml:c",
               "search_space": {"x": space}, "objective": {"goal": "maximize", "primary_metric": "m"},
               "sampling_algorithm": "random", "limits": {"max_total_trials": 2}}  # fmt: skip
        findings = Findings()
        Linter(write(tmp_path / "sweep.yml", job), findings).file()
        return [(finding.message, finding.suggestion) for finding in findings.errors]

    assert lint(type="uniform", min_value="0.1", max_value=0.9) == []
    assert lint(type="quniform", min_value="1", max_value="9", q="2") == []
    assert lint(type="randint", upper="5") == []
    assert lint(type="uniform", min_value="low", max_value=0.9) == [
        ("search_space.x.min_value: 'low' is not a number", "write a number")
    ]
    [(message, hint)] = lint(type="normal", mu=[1], sigma=1)
    assert (message.partition(":")[0], "whole" in hint) == ("search_space.x.mu", False)
