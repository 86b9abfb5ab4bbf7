"""The definitions that ship, the expressions in them, and what a job would run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import ValidationError
from testing.support.definitions import write_project

from vision_mlops.cli.main import app
from vision_mlops.config import load_workload
from vision_mlops.core.errors import PipelineError
from vision_mlops.endpoints.azureml.azureml_workspace import DEFINITIONS
from vision_mlops.jobs.definitions.definition import load
from vision_mlops.jobs.definitions.expressions import (
    BindingReference,
    ExpressionError,
    Optional,
    parse,
    references,
    render,
    sole,
)
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.linter import linter as module
from vision_mlops.jobs.definitions.models.ports import InputDeclaration
from vision_mlops.jobs.definitions.models.schedule import cron_problem
from vision_mlops.jobs.definitions.models.steps import (
    CommandComponent,
    ComponentStep,
    ParallelComponent,
    PipelineComponent,
    PipelineJob,
    SweepStep,
)
from vision_mlops.jobs.definitions.plan.planner import plan
from vision_mlops.jobs.pipelines import PIPELINES

SHIPPED = sorted(PIPELINES.rglob("*.yml"))
TRAIN = PIPELINES / "train.yml"


def test_something_ships() -> None:
    names = {path.name for path in SHIPPED}
    assert names >= {"prepare.yml", "train.yml", "evaluate.yml", "gate-and-register.yml"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_definitions_have_no_findings(path: Path) -> None:
    assert list(module.lint([path])) == []
    assert path.read_text(encoding="utf-8").startswith("$schema: ")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


@pytest.mark.parametrize("path", [*SHIPPED, *sorted(DEFINITIONS.glob("*.yml"))], ids=lambda path: path.name)
def test_what_shipped_definitions_point_to_is_there(path: Path) -> None:
    """Relative paths, also of data, which the linter leaves to whoever runs the job."""
    relative = [text.removeprefix("file:") for text in _texts(yaml.safe_load(path.read_text(encoding="utf-8")))]
    found = [text for text in relative if text.startswith(("./", "../")) and "\n" not in text]
    assert [text for text in found if not (path.parent / text).exists()] == []


COMPONENTS = [path for path in SHIPPED if path.parent.name == "components"]


def component(path: Path) -> CommandComponent | ParallelComponent:
    definition = load(path, Findings())
    assert definition is not None
    assert isinstance(definition.model, CommandComponent | ParallelComponent)
    return definition.model


COMMANDS = [path for path in COMPONENTS if isinstance(component(path), CommandComponent)]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_commands_of_components_exist_with_every_option(path: Path) -> None:
    """Each `mlops ...` in a component is a command that there is, and has the options it is given, the required ones too."""
    model = component(path)
    assert isinstance(model, CommandComponent)
    text = model.command.replace("$[[", " ").replace("]]", " ")
    for line in text.split("&&"):
        words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "value", line))
        assert words.pop(0) == "mlops"
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"{words[0]} is no command"
        options = {name: item for item in command.params for name in item.opts}
        used = [word for word in words if word.startswith("-")]
        assert set(used) <= set(options), f"{path.name}: {line}"
        required = {item.name for item in command.params if item.required}
        assert required <= {options[word].name for word in used}, f"{path.name}: {line}"


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.stem)
def test_inputs_and_outputs_of_components_are_described(path: Path) -> None:
    model = component(path)
    assert model.description
    assert all(port.description for port in model.inputs.values())
    assert all(port.description for port in model.outputs.values())


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.stem)
def test_enums_of_components_are_those_of_the_command_line(path: Path) -> None:
    """An enum in a component offers nothing that the command would refuse."""
    from vision_mlops.cli.gate import FailOnVerdict
    from vision_mlops.data.manifest import SplitName

    known: dict[str, Iterable[str]] = {
        "split": get_args(SplitName),
        "fail_on": get_args(FailOnVerdict),
        "precision": {"auto", "fp32", "bf16"},
    }
    for name, port in component(path).inputs.items():
        assert set(port.enum or ()) <= set(known.get(name, ()))


def test_inputs_of_the_training_component_set_keys_of_a_workload() -> None:
    """What a sweep draws for an input is a value that the workload takes, at both bounds."""
    model = component(TRAIN.parent / "components" / "train.yml")
    assert isinstance(model, CommandComponent)
    keys = dict(re.findall(r"--set ([\w.]+)=\$\{\{inputs\.(\w+)\}\}", model.command))
    assert set(keys.values()) == set(model.inputs) - {"data", "workload"}
    for key, name in keys.items():
        port = model.inputs[name]
        for value in (port.min, port.max, *(port.enum or ())):
            if value is not None:
                load_workload("textile", [f"{key}={value}"])


def test_the_training_component_is_the_training_pipeline() -> None:
    """Both hold the same steps, but for what only the published one is given. Change one: change the other."""
    pipeline, published = (load(TRAIN.with_name(name), Findings()) for name in ("train.yml", "train-component.yml"))
    assert pipeline is not None
    assert published is not None
    assert isinstance(pipeline.model, PipelineJob)
    assert isinstance(published.model, PipelineComponent)
    optional = {name for name, port in published.model.inputs.items() if port.optional}
    assert optional == {"images", "source", "on_registered", "token_secret"}
    for name, step in published.node["jobs"].items():
        common = {key: value for key, value in step["inputs"].items() if key not in optional}
        assert {**step, "inputs": common} == pipeline.node["jobs"][name]
    assert published.node["jobs"].keys() == pipeline.node["jobs"].keys()
    inputs = published.model.inputs.items()
    assert {name: port.default for name, port in inputs if name not in optional} == {
        name: given.content for name, given in pipeline.model.inputs.items()
    }
    assert all(port.description for port in published.model.inputs.values())
    assert all(port.description for port in published.model.outputs.values())
    types = {name: port["type"] for name, port in pipeline.node["outputs"].items()}
    assert {name: port.type for name, port in published.model.outputs.items()} == types


def test_inputs_of_the_training_pipeline_are_bounded_as_those_of_its_steps() -> None:
    published = load(TRAIN.with_name("train-component.yml"), Findings())
    assert published is not None
    assert isinstance(published.model, PipelineComponent)
    for step in published.model.jobs.values():
        assert isinstance(step, ComponentStep)
        inner = component(TRAIN.parent / str(step.component).removeprefix("file:"))
        for name, value in step.inputs.items():
            bound = sole(value.content)
            assert bound is not None
            if bound.parts[:2] == ("parent", "inputs"):
                outer, port = published.model.inputs[bound.parts[2]], inner.inputs[name]
                assert (outer.type, outer.enum, outer.min, outer.max) == (port.type, port.enum, port.min, port.max)


@pytest.mark.parametrize("name", ["sweep.yml", "sweep-bayesian.yml", "sweep-grid.yml"])
def test_sweeps_maximise_what_training_logs(name: str) -> None:
    definition = load(TRAIN.with_name(name), Findings())
    assert definition is not None
    assert isinstance(definition.model, PipelineJob)
    search = definition.model.jobs["search"]
    assert isinstance(search, SweepStep)
    objective = search.objective
    # test_training.py reads the history of this metric after a real training.
    assert (objective.goal, objective.primary_metric) == ("maximize", "val_accuracy")
    steps = [step.step for step in plan(TRAIN.with_name(name))]
    assert steps == ["prepare", "search", "evaluate"]


def test_lint_of_the_training_pipeline_loads_nothing_heavy() -> None:
    heavy = ("torch", "mlflow", "azure", "numpy", "pandas", "openvino", "rich.table")
    code = "import sys, atexit\n"
    code += f"atexit.register(lambda: print('loaded:', [m for m in {heavy!r} if m in sys.modules]))\n"
    code += "from vision_mlops.cli.main import main\nmain()"
    words = [sys.executable, "-c", code, "job", "lint", str(TRAIN)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "loaded: []\n"


@pytest.mark.slow
def test_the_training_pipeline_in_order_with_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-m", "vision_mlops", "job", "show", str(TRAIN), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    steps = json.loads(done.stdout)
    assert [step["step"] for step in steps] == ["prepare", "train", "evaluate", "gate_and_register"]
    assert steps[0]["command"] == (
        "mlops data prepare --workload 'textile' --set data.split.seed=0 --out ${{outputs.data}}"
    )
    assert steps[3]["needs"] == ["train", "prepare", "evaluate"]
    monkeypatch.setenv("COLUMNS", "200")
    done = subprocess.run(words[:-1], capture_output=True, text=True, check=False)
    assert "bundle = ${{parent.jobs.train.outputs.bundle}}" in done.stdout


def test_plan_of_nested_pipelines_sweeps_and_inline_steps(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project")
    steps = {step.step: step for step in plan(folder / "outer.yml")}
    assert list(steps) == ["first/prep", "first/search", "first/inline", "registered", "last"]
    assert steps["first/prep"].command.startswith("python prep.py ./images 0.5 fast False ${{outputs.prepped}}")
    assert steps["first/search"].needs == ["first/prep"]
    assert steps["first/search"].command.endswith("${{search_space.rate}} adam ${{outputs.model}}")
    assert steps["first/inline"].command == "echo 0.1 > ${{outputs.note}}"
    assert steps["first/inline"].component == steps["last"].component == "inline"
    assert steps["registered"].component == "azureml:anything:3"
    assert steps["last"].needs == ["first/search"]  # not on all steps of the pipeline that it is in
    (single,) = plan(folder / "prep.yml")
    assert single.inputs == {"raw": "${{inputs.raw}}", "share": "0.5", "mode": "fast", "verbose": "False"}
    assert "--count" not in single.command
    (job,) = plan(folder / "job.yml")
    assert job.command == "python prep.py https://example.com/data.csv --n 3 ${{outputs.out}}"
    (score,) = plan(folder / "parallel.yml")
    assert score.command == "score.py --out ${{outputs.scores}}"
    (sweep,) = plan(folder / "sweep.yml")
    assert sweep.command == "fit ./images --rate ${{search_space.rate}} --optimizer ${{search_space.optimizer}}"


@pytest.mark.parametrize("name", ["environment.yml", "cron.yml"])
def test_what_is_no_job_cannot_be_planned(tmp_path: Path, name: str) -> None:
    folder = write_project(tmp_path / "project")
    with pytest.raises(PipelineError, match="the file defines a"):
        plan(folder / name)


def test_expressions_are_taken_apart() -> None:
    pieces = parse("run ${{ inputs.a }} $[[--b ${{inputs.b}}]] [[ -f x ]]")
    assert pieces[:3] == ("run ", BindingReference(("inputs", "a")), " ")
    assert pieces[3] == Optional(("--b ", BindingReference(("inputs", "b"), optional=True)))
    assert "".join(str(piece) for piece in pieces[4:]) == " [[ -f x ]]"
    assert [str(item) for item in references("${{parent.jobs.J.outputs.O}}x$[[${{inputs.y}}]]")] == [
        "${{parent.jobs.J.outputs.O}}",
        "${{inputs.y}}",
    ]
    assert sole("${{inputs.a}}") == BindingReference(("inputs", "a"))
    assert sole("a ${{inputs.a}}") is sole("plain") is sole(3) is sole("${{") is None


def test_expressions_are_rendered() -> None:
    text = "run ${{inputs.a}} $[[--b ${{inputs.b}}]]$[[ --c ${{inputs.c}}]]"
    values: dict[tuple[str, ...], str | None] = {("inputs", "a"): "1", ("inputs", "b"): None, ("inputs", "c"): "x y"}
    assert render(text, values) == "run 1  --c x y"
    with pytest.raises(ExpressionError, match=r"\$\{\{inputs.z\}\} has no value"):
        render("${{inputs.z}}", values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${{inputs.a", "without }}"),
        ("$[[ a", r"\$\[\[ without \]\]"),
        ("$[[ $[[ a ]] ]]", r"inside \$\[\["),
        ("${{inputs..a}}", "not made of names"),
        ("${{}}", "not made of names"),
        ("${{inputs['a']}}", "not made of names"),
    ],
)
def test_broken_expressions(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text", ["* * * * *", "*/5 0-6 * * 1-5", "0,30 8 * * sun,Wed", "0 0 1 jan *", "0-30/10 6 * * 0"]
)
def test_cron_expressions_that_are_right(text: str) -> None:
    assert cron_problem(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60 * * * *", "out of range"),
        ("5-1 * * * *", "runs backwards"),
        ("*/0 * * * *", "step of 0"),
        ("a * * * *", "out of range"),
        ("1- * * * *", "is not valid"),
        ("", "0 fields"),
        ("* * * * * *", "6 fields"),
        ("* * 0 * *", "day of month"),
        ("* * * * 7", "day of week"),
    ],
)
def test_cron_expressions_that_are_wrong(text: str, message: str) -> None:
    found = cron_problem(text)
    assert found is not None
    assert message in found[0]


def test_models_are_strict_without_the_linter_too() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        InputDeclaration.model_validate({"type": "string", "defualt": "x"})
    with pytest.raises(ValidationError):
        PipelineJob.model_validate({"jobs": {}})
