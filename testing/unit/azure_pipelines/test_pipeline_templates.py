"""Templates of Azure Pipelines: parameters, conditions, loops, variables, and what the service refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_model import Pipeline, pipeline_of
from testing.support.azure_pipelines.template_expansion import expand

STEPS = """
parameters:
  - {name: words, type: object, default: {a: 1, b: 2}}
  - {name: loud, type: boolean, default: false}
  - {name: before, type: stepList, default: []}
  - {name: count, type: number, default: 1}
  - {name: size, type: string, default: small, values: [small, large]}
steps:
  - ${{ parameters.before }}
  - ${{ each word in parameters.words }}:
      - script: echo ${{ word.key }} ${{ word.value }}
        ${{ if eq(parameters.loud, true) }}:
          displayName: LOUD
        ${{ elseif gt(parameters.count, 1) }}:
          displayName: many
        ${{ else }}:
          displayName: quiet
        env:
          ${{ insert }}: ${{ parameters.words }}
          SIZE: ${{ parameters.size }} ${{ parameters.loud }}
"""
COMMON = "variables: {region: west, place: $(region)-1}"
DEV = "variables:\n  - {name: group, value: 'rg-${{ variables.region }}'}\n  - group: secrets"


def expanded(root: str, parameters: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
    files = {"ci/root.yml": root, "ci/t/steps.yml": STEPS, "ci/t/common.yml": COMMON, "ci/t/dev.yml": DEV}
    files |= {f"ci/t/{name}.yml": text for name, text in more.items()}
    return expand(PipelineFiles(Path("/nowhere"), files), "ci/root.yml", parameters).tree


def steps(parameters: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = expanded(f"steps:\n  - template: t/steps.yml\n    parameters: {{{parameters}}}")[
        "steps"
    ]
    return found


def test_defaults_loops_and_inserted_mappings() -> None:
    assert steps() == [
        {"script": "echo a 1", "displayName": "quiet", "env": {"a": "1", "b": "2", "SIZE": "small False"}},
        {"script": "echo b 2", "displayName": "quiet", "env": {"a": "1", "b": "2", "SIZE": "small False"}},
    ]


def test_given_parameters_choose_branches_and_put_steps_in() -> None:
    found = steps("words: {x: y}, loud: TRUE, before: [{script: first}], size: large, count: 3")
    assert found == [
        {"script": "first"},
        {"script": "echo x y", "displayName": "LOUD", "env": {"x": "y", "SIZE": "large True"}},
    ]
    assert [step["displayName"] for step in steps("count: 2")] == ["many", "many"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("colour: red", "unexpected parameter colour"),
        ("size: medium", "must be one of small, large"),
        ("loud: maybe", "not a boolean"),
        ("count: many", "not a number"),
        ("before: one", "not a stepList"),
    ],
)
def test_wrong_parameters_are_refused(given: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        steps(given)


def test_a_parameter_without_default_must_be_given() -> None:
    root = "parameters:\n  - name: who\nsteps:\n  - script: ${{ parameters.who }}"
    with pytest.raises(PipelineError, match="a value for the parameter who must be provided"):
        expanded(root)
    assert expanded(root, {"who": "me"})["steps"] == [{"script": "me"}]


def test_variables_name_those_before_them_and_follow_into_stages() -> None:
    tree = expanded(
        """
parameters: [{name: env, default: dev}]
variables:
  - template: t/common.yml
  - template: t/${{ parameters.env }}.yml
  - ${{ if eq(variables.group, 'rg-west') }}:
      - {name: where, value: there}
stages:
  - stage: one
    variables: {own: '${{ variables.where }}'}
    jobs:
      - job: ${{ variables.own }}
        steps: [{script: 'echo ${{ variables.group }} $(place)'}]
"""
    )
    values = [(item.get("name", "group"), item.get("value", item.get("group"))) for item in tree["variables"]]
    assert values == [
        ("region", "west"), ("place", "$(region)-1"), ("group", "rg-west"), ("group", "secrets"), ("where", "there"),
    ]  # fmt: skip
    (stage,) = tree["stages"]
    assert stage["jobs"] == [{"job": "there", "steps": [{"script": "echo rg-west $(place)"}]}]


def test_a_pipeline_that_extends_a_template() -> None:
    base = "parameters: [{name: jobs, type: jobList}]\nstages:\n  - stage: s\n    jobs: ['${{ parameters.jobs }}']"
    root = (
        "trigger: none\nextends:\n  template: /ci/t/base.yml\n  parameters:\n    jobs: [{job: j, steps: [{script: x}]}]"
    )
    tree = expanded(root, base=base)
    assert tree == {"stages": [{"stage": "s", "jobs": [{"job": "j", "steps": [{"script": "x"}]}]}], "trigger": "none"}


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("steps:\n  - template: t/none.yml", "the file ci/t/none.yml does not exist"),
        ("steps:\n  - template: t/common.yml", "used as a template of steps, and has variables"),
        ("steps:\n  - template: ../../x.yml", "lies outside of the repository"),
        ("steps:\n  - template: x.yml@other", "the repository 'other', which is not known"),
        ("steps:\n  - ${{ else }}:\n      - script: x", "else without an if"),
        ("steps:\n  - script: ${{ variables.typo }}", "variables.typo is not known"),
        ("steps:\n  - script: ${{ parameters.typo }}", "parameters.typo is not known"),
        ("a: &x 1\nsteps: *x", "anchors and aliases are not supported"),
        ("steps: []\nSteps: []", "the key 'Steps' is there twice"),
        ("steps:\n  - script: a\n    ${{ if true }}: {script: b}", "the key 'script' is already defined"),
        ("steps:\n  - template: t/loop.yml", "nested more than|more than 100 files"),
    ],
)
def test_what_the_service_refuses(root: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        expanded(root, loop="steps:\n  - template: loop.yml")


def model(text: str) -> Pipeline:
    return pipeline_of(expanded(text), "root")


def test_steps_and_jobs_alone_are_wrapped_and_sources_are_checked_out() -> None:
    (stage,) = model("pool: {vmImage: ubuntu-24.04}\nsteps: [{script: x}, {bash: y}]").stages
    (job,) = stage.jobs
    assert [step.task for step in job.steps()] == ["checkout", "script", "bash"]
    assert job.pool == {"vmImage": "ubuntu-24.04"}
    (stage,) = model("jobs: [{job: a, steps: [{checkout: none}, {script: x}]}]").stages
    assert [step.task for step in stage.jobs[0].steps()] == ["checkout", "script"]


def test_stages_wait_for_the_one_before_unless_they_say_otherwise() -> None:
    jobs = "jobs: [{job: j, steps: [{script: x}]}]"
    text = f"stages:\n  - {{stage: a, {jobs}}}\n  - {{stage: b, {jobs}}}\n  - {{stage: c, dependsOn: [], {jobs}}}\n"
    text += f"  - {{stage: d, dependsOn: a, {jobs}}}"
    assert [stage.depends_on for stage in model(text).stages] == [(), ("a",), (), ("a",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs: [{job: a-b, steps: [{script: x}]}]", "is not made of letters, digits and underscores"),
        ("jobs: [{job: a, steps: [{script: x}]}, {job: A, steps: [{script: x}]}]", "a is there twice"),
        ("jobs: [{job: a, step: [{script: x}]}]", "unexpected step"),
        ("jobs: [{job: a, steps: [{scripts: x}]}]", "not a step: scripts"),
        ("jobs: [{job: a, steps: [{script: x, input: y}]}]", "unexpected input"),
        ("jobs: [{deployment: a, strategy: {runOnce: {deploy: {steps: [{script: x}]}}}}]", "no environment"),
        ("jobs: [{deployment: a, environment: e, strategy: {canary: {}}}]", "only runOnce is known"),
        ("stages: [{stage: a, jobs: []}]", "has no jobs"),
        ("trigger: none", "no stages, jobs or steps"),
    ],
)
def test_what_is_no_pipeline_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        model(text)
