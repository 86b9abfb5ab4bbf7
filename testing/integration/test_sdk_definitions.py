"""Azure ML's own SDK reads, validates and converts every definition that ships; and what our linter says of it is so.

Nothing is sent anywhere: this proves that the SDK takes the files, not what the service makes of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from testing.support.broken_definitions import BROKEN, REFUSED_AND_WARNED_OF, SDK_REFUSES, make_mistake
from testing.support.definitions import FILES, write_project
from testing.support.jobs import SCHEMA, component, pipeline, write

import vision_mlops
from vision_mlops.core.errors import AzureError, Severity
from vision_mlops.endpoints.azureml.azureml_workspace import DEFINITIONS
from vision_mlops.jobs.azureml.published_pipelines import _inputs
from vision_mlops.jobs.definitions.linter.linter import lint
from vision_mlops.jobs.definitions.plan.nodes import Value
from vision_mlops.jobs.definitions.plan.planner import resolve
from vision_mlops.jobs.pipelines import PIPELINES

PACKAGE = Path(vision_mlops.__file__).parent
ROOT = PACKAGE.parents[1]
DEPLOYED = sorted(DEFINITIONS.glob("*.yml"))
"""Endpoints and deployments, which the linter does not know: they run nothing on this machine."""
# YAML that is no definition of Azure ML, or of another kind, by folder.
_OTHER = (PACKAGE / "config" / "workloads", ROOT / "environments" / "conda", DEPLOYED[0].parent)
_KUBERNETES = PACKAGE / "endpoints" / "aks"
_TABLES = tuple(
    PACKAGE / name
    for name in (
        "benchmark/prices.yml",
        "config/retirements.yml",
        "doctor/migration/v1_names.yml",
        "teardown/prices.yml",
    )
)
SHIPPED = sorted(
    path
    for folder in (PACKAGE, ROOT / "environments")
    for pattern in ("*.yml", "*.yaml")
    for path in folder.rglob(pattern)
    if path.parent not in (*_OTHER, _KUBERNETES) and path not in _TABLES
)


def loader(kind: str) -> Callable[[Path], Any]:
    """The SDK's function for a kind of definition, as its $schema calls it."""
    from azure.ai.ml import load_component, load_environment, load_job
    from azure.ai.ml.entities._load_functions import load_schedule

    known: dict[str, Callable[[Path], Any]] = {
        "commandComponent": load_component,
        "parallelComponent": load_component,
        "pipelineComponent": load_component,
        "commandJob": load_job,
        "pipelineJob": load_job,
        "sweepJob": load_job,
        "schedule": load_schedule,
        "environment": load_environment,
    }
    assert kind in known, f"no case for {kind}: add its load function, so that the files of this kind are tried"
    return known[kind]


def kind_of(path: Path) -> str:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return str(content.get("$schema", "nothing")).rsplit("/", 1)[-1].removesuffix(".schema.json")


def accepted(path: Path, kind: str = "") -> Any:
    """Load, validate and convert; returns the entity and what would be sent, or raises what the SDK says.

    ``kind`` is for files that do not say it: which function loads them is a matter of the command.
    """
    entity = loader(kind or kind_of(path))(path)
    if hasattr(entity, "_validate"):  # environments check themselves while they are made
        result = entity._validate()
        if not result.passed:
            raise ValueError(str(result.error_messages))
    return entity, entity._to_rest_object()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def test_definitions_are_found() -> None:
    assert {path.name for path in SHIPPED} >= {"train.yml", "sweep.yml", "score-batch.yml", "schedule-cron.yml"}
    assert ROOT / "environments" / "train.yml" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_sdk_takes_what_ships(path: Path) -> None:
    accepted(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_linter_has_nothing_to_say_about_what_ships(path: Path) -> None:
    assert [str(finding) for finding in lint([path])] == []


def converted(path: Path) -> Any:
    """What would be sent of an endpoint or deployment."""
    from azure.ai.ml import load_batch_endpoint, load_online_deployment, load_online_endpoint
    from azure.ai.ml.entities._load_functions import load_model_batch_deployment

    kind = kind_of(path)
    if kind == "batchEndpoint":
        return load_batch_endpoint(path)._to_rest_batch_endpoint(location="here")
    if kind == "modelBatchDeployment":
        return load_model_batch_deployment(path)._to_rest_object(location="here")
    if kind.endswith("OnlineEndpoint"):
        return load_online_endpoint(path)._to_rest_online_endpoint(location="here")
    return cast(Any, load_online_deployment(path))._to_rest_object(location="here")


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.name)
def test_the_sdk_takes_what_is_deployed(path: Path) -> None:
    sent = dict(converted(path))
    sent = {**sent, **dict(sent.get("properties") or {})}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "endpoint" in path.name:
        assert sent["authMode"].lower().replace("_", "") in ("key", "aadtoken")
        assert bool(sent.get("compute")) == ("compute" in content)
        return
    assert content["model"].endswith("textile:1")
    assert "textile:1" in str(sent["model"])
    if "batch" not in path.name:
        assert sent["endpointComputeType"] == content["type"].capitalize()
        assert (sent["requestSettings"]["requestTimeout"], sent["readinessProbe"]["period"]) == ("PT30S", "PT5S")
        assert sent["appInsightsEnabled"] is True
    code = content.get("code_configuration")
    if code:
        assert (path.parent / code["code"] / code["scoring_script"]).is_file()


def test_the_packages_of_the_score_script_are_the_pinned_ones() -> None:
    content = yaml.safe_load((DEFINITIONS / "managed-score-script.yml").read_text())
    pip = content["environment"]["conda_file"]["dependencies"][-1]["pip"]
    lines = (ROOT / "requirements" / "azmlinfsrv.txt").read_text(encoding="utf-8").splitlines()
    assert pip == [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", FILES)
def test_the_sdk_takes_what_the_linter_is_tested_with(project: Path, name: str) -> None:
    accepted(project / name)


@pytest.mark.parametrize("case", SDK_REFUSES)
def test_the_linter_refuses_what_the_sdk_refuses(project: Path, case: str) -> None:
    from azure.ai.ml.exceptions import MlException
    from marshmallow import ValidationError

    path = make_mistake(project, case)
    severities = {item.severity for item in lint([path])}
    assert (Severity.ERROR in severities) or case in REFUSED_AND_WARNED_OF
    with pytest.raises((MlException, ValidationError, ValueError, TypeError, RecursionError), match=SDK_REFUSES[case]):
        accepted(path)


@pytest.mark.parametrize("case", [case for case in BROKEN if case not in SDK_REFUSES])
def test_the_linter_finds_what_the_sdk_lets_through(project: Path, case: str) -> None:
    kind = kind_of(project / BROKEN[case][0])
    path = make_mistake(project, case)
    assert any(item.rule == BROKEN[case][3] for item in lint([path]))
    accepted(path, kind)


def test_the_number_of_processes_of_training_comes_from_an_input() -> None:
    entity, sent = accepted(PIPELINES / "train.yml")
    step = sent.properties.jobs["train"]
    assert step["distribution"]["process_count_per_instance"] == "${{parent.inputs.processes}}"
    assert entity.settings.default_compute == "cpu-cluster"


def test_a_sweep_step_carries_the_component_and_its_space() -> None:
    _, sent = accepted(PIPELINES / "sweep.yml")
    step = sent.properties.jobs["search"]
    inputs = step["trial"]["properties"]["componentSpec"]["inputs"]
    assert set(step["search_space"]) <= set(inputs)
    assert step["objective"] == {"goal": "maximize", "primary_metric": "val_accuracy"}
    assert step["early_termination"]["policy_type"] == "Bandit"


def test_a_schedule_carries_its_changes_of_the_job() -> None:
    _, sent = accepted(PIPELINES / "schedule-cron.yml")
    job = sent.properties.action.job_definition
    assert job["experimentName"] == "vision-mlops-scheduled"
    assert job["inputs"]["seed"]["value"] == "1"
    assert job["inputs"]["workload"]["value"] == "textile"
    assert set(job["jobs"]) == {"prepare", "train", "evaluate", "gate_and_register"}


def test_the_context_of_the_image_is_small_and_whole() -> None:
    """What the SDK would upload, by its own reading of .amlignore."""
    from azure.ai.ml._utils._asset_utils import get_ignore_file, traverse_directory

    entity, _ = accepted(ROOT / "environments" / "train.yml")
    context = (ROOT / "environments" / entity.build.path).resolve()
    assert context == ROOT
    ignore = get_ignore_file(context)
    files = []
    for folder, below, names in os.walk(context):
        below[:] = [name for name in below if name not in (".git", ".venv")]  # many thousand files
        files += [str(Path(folder, name)) for name in names]
    pairs = traverse_directory(str(context), files, prefix="", ignore_file=ignore)
    sent = {target: Path(source) for source, target in pairs}
    assert all(ignore.is_file_excluded(str(context / name)) for name in (".git/config", ".venv/bin/python", ".env"))
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "requirements/azure-train.txt",
        "src/vision_mlops/__init__.py",
        "src/vision_mlops/jobs/pipelines/batch/score_batch.py",
        entity.build.dockerfile_path,
    } <= set(sent)
    assert {Path(name).parts[0] for name in sent if len(Path(name).parts) > 1} == {
        "environments",
        "requirements",
        "src",
    }
    assert sum(path.stat().st_size for path in sent.values()) < 3_500_000


LITERALS: dict[str, list[object]] = {
    "string": ["no", "010", "1_000", "true", "", " 3", 3, 1.0, 1e-05, True],
    "number": [1, -3, 1.0, 1e-05, 1e20, 123456789.123, "3", "1e3"],
    "integer": [3, 0, -3, 10**22, "3", "010"],
    "boolean": [True, False, "true", "FALSE"],
}


@pytest.mark.parametrize(("type_", "value"), [(type_, value) for type_, values in LITERALS.items() for value in values])
def test_a_command_gets_a_literal_as_the_sdk_sends_it(tmp_path: Path, type_: str, value: object) -> None:
    """As a default of a component, given to a step, and given to the pipeline around it."""
    from azure.ai.ml import load_component, load_job
    from azure.ai.ml.entities._job._input_output_helpers import to_rest_dataset_literal_inputs

    part = component("echo ${{inputs.a}} ${{inputs.b}}", {"a": {"type": type_, "default": value}, "b": {"type": type_}})
    write(tmp_path / "part.yml", part)
    steps = {"s": {"type": "command", "component": "./part.yml", "inputs": {"b": value}},
             "t": {"type": "command", "component": "./part.yml", "inputs": {"b": "${{parent.inputs.c}}"}}}  # fmt: skip
    job = pipeline(steps, inputs={"c": value}, settings={"default_compute": "azureml:c"})
    file = write(tmp_path / "job.yml", job)
    plan = resolve(file)
    nodes = {node.step: node for node in plan.nodes}
    here = [nodes[step].inputs[name] for step, name in (("s", "a"), ("s", "b"), ("t", "b"))]
    loaded: Any = load_job(file)
    spec: Any = load_component(tmp_path / "part.yml")._to_rest_object().properties.component_spec
    sent = [
        spec["inputs"]["a"]["default"],
        loaded.jobs["s"]._to_rest_object()["inputs"]["b"]["value"],
        cast(Any, to_rest_dataset_literal_inputs(loaded._build_inputs(), job_type="pipeline")["c"]).value,
    ]
    assert [item.text for item in here if isinstance(item, Value)] == sent


def test_the_sdk_takes_bounds_of_a_search_space_as_text(tmp_path: Path) -> None:
    trial = {"command": "echo ${{search_space.x}} ${{search_space.y}}", "environment": "azureml:e:1"}
    space = {"x": {"type": "uniform", "min_value": "0.1", "max_value": 0.9}, "y": {"type": "randint", "upper": "5"}}
    job = {"$schema": f"{SCHEMA}/sweepJob.schema.json", "type": "sweep", "trial": trial, "compute": "azureml:c",
           "search_space": space, "sampling_algorithm": "random", "limits": {"max_total_trials": 1},
           "objective": {"goal": "maximize", "primary_metric": "m"}}  # fmt: skip
    file = write(tmp_path / "sweep.yml", job)
    _, sent = accepted(file)
    assert cast(Any, sent)["properties"]["searchSpace"] == {"x": ["uniform", [0.1, 0.9]], "y": ["randint", [5]]}
    assert not lint([file]).errors
    found = cast(Any, resolve(file).nodes[0].sweep).search_space
    assert (found["x"].min_value, found["x"].max_value, found["y"].upper) == (0.1, 0.9, 5)


@pytest.mark.parametrize("text", ["3", "010", "no", "true", "1e-5", "0.5", "1_000", "lot #2"])
def test_values_that_trigger_a_pipeline_have_its_types(text: str) -> None:
    from azure.ai.ml import Input

    declared = {name: Input(type=name) for name in ("string", "integer", "number", "boolean")}
    assert _inputs(declared, {"string": text})["string"].default == text
    goods: dict[str, dict[str, Any]] = {
        "3": {"integer": 3, "number": 3},
        "010": {"integer": 10, "number": 10},
        "true": {"boolean": True},
        "1e-5": {"number": 1e-05},
        "0.5": {"number": 0.5},
    }
    good = goods.get(text, {})
    for name in ("integer", "number", "boolean"):
        if name in good:
            assert _inputs(declared, {name: text})[name].default == good[name]
        else:
            with pytest.raises(AzureError, match=f"input '{name}': '{text}' is not of type {name}"):
                _inputs(declared, {name: text})
    types = {"3": "integer", "0.5": "number", "true": "boolean"}
    assert _inputs(None, {"x": text})["x"].type == types.get(text, "string"), "nobody has declared it"
