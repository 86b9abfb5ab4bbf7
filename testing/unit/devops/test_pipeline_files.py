"""What pipelines refer to, read from their files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vision_mlops.core.errors import PipelineError
from vision_mlops.devops.pipeline_files import AZURE, DOCKER, FOLDER, GITHUB, PipelineUse, read_pipelines
from vision_mlops.devops.pipeline_values import Scope, loop_of
from vision_mlops.devops.workflow_files import workflow_environments

ROOT = Path(__file__).parents[3]
SCOPE = Scope(
    parameters={"stage": ("dev", "prod"), "flag": (True,), "items": (["a", "b"],)},
    variables={
        "name": ("vision",),
        "full": ("$(name)-${{ parameters.stage }}",),
        "later": ("$(Build.BuildId)",),
        "empty": ("",),
    },
    bound={"each": ({"name": "one"}, {"name": "two"})},
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("plain", ("plain",)),
        ("x-${{ parameters.stage }}", ("x-dev", "x-prod")),
        ("${{ variables.name }}-$(name)", ("vision-vision",)),
        ("${{ variables['full'] }}", ("vision-dev", "vision-prod")),
        ("$(empty)", ("",)),
        ("${{ each.name }}", ("one", "two")),
        ("${{ parameters.flag }}", ("True",)),
        ("${{ parameters.stage }}${{ parameters.stage }}", ("devdev", "devprod", "proddev", "prodprod")),
        ("$(Build.BuildId)", None),
        ("$(later)", None),
        ("${{ parameters.unknown }}", None),
        ("$[ variables.name ]", None),
        ("${{ format('{0}', 'x') }}", None),
    ],
)
def test_values_before_a_run(text: str, values: tuple[str, ...] | None) -> None:
    assert SCOPE.values(text) == values


def test_a_variable_of_itself_has_no_value() -> None:
    assert Scope(variables={"a": ("$(a)",)}).values("$(a)") is None


def test_loops() -> None:
    assert loop_of("${{ each one in parameters.items }}") == ("one", "parameters", "items")
    assert loop_of("${{ if eq(1, 1) }}") is None


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        file = root / "ado_pipelines" / f"{name.replace('__', '/')}.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def one(root: Path, **files: str) -> PipelineUse:
    (found,) = read_pipelines(write(root, **files)).pipelines
    return found


def test_all_kinds_of_references(tmp_path: Path) -> None:
    use = one(
        tmp_path,
        all_pipeline="""
resources:
  containers: [{container: c, image: i, endpoint: reg}, {container: d, type: ACR, azureSubscription: arm}]
  repositories: [{repository: r, type: github, endpoint: hub}]
pool: {name: own-$(suffix)}
variables: {suffix: pool}
stages:
  - stage: one
    variables: [{group: shared}]
    jobs:
      - deployment: d
        environment: {name: live.resource}
        strategy: {runOnce: {on: {failure: {steps: [{task: A@1, inputs: {connectedServiceNameARM: undo}}]}}}}
      - job: j
        pool: {vmImage: ubuntu-24.04}
        container: {image: i, endpoint: reg2}
        steps:
          - ${{ if eq(variables.suffix, 'x') }}:
              - task: Docker@2
                inputs: {containerRegistry: reg3, command: login}
""",
    )
    assert use.connections == {
        "reg": DOCKER,
        "arm": AZURE,
        "hub": GITHUB,
        "undo": AZURE,
        "reg2": DOCKER,
        "reg3": DOCKER,
    }
    assert (use.environments, use.groups, use.pools) == ({"live"}, {"shared"}, {"own-pool"})
    assert (use.name, use.path, use.for_pull_requests) == ("all", "ado_pipelines/all_pipeline.yml", False)


DEPLOY = """
parameters: [{name: stage, type: string}, {name: steps, type: stepList, default: []}]
jobs:
  - deployment: d
    variables:
      - template: ../variables/${{ parameters.stage }}.yml
    environment: ${{ variables.place }}
    strategy:
      runOnce:
        deploy:
          steps: [{task: AzureCLI@2, inputs: {azureSubscription: $(place)-arm}}, '${{ parameters.steps }}']
"""
VARIABLES = {
    "variables__dev": "variables: [{name: place, value: here}]",
    "variables__prod": "variables: {place: there}",
}


def test_a_template_is_followed_with_what_it_is_given(tmp_path: Path) -> None:
    use = one(
        tmp_path,
        go_pipeline="jobs: [{template: templates/deploy.yml, parameters: {stage: dev}}]",
        templates__deploy=DEPLOY,
        **VARIABLES,
    )
    assert (use.environments, use.connections) == ({"here"}, {"here-arm": AZURE})


def test_allowed_values_and_loops_are_all_followed(tmp_path: Path) -> None:
    files = {
        "go_pipeline": """
pr: {branches: {include: [main]}}
parameters: [{name: where, type: string, default: dev, values: [dev, prod]}, {name: more, type: object, default: [x, y]}]
jobs:
  - template: /ado_pipelines/templates/deploy.yml
    parameters:
      stage: ${{ parameters.where }}
      steps: [{task: AzureCLI@2, inputs: {azureSubscription: given}}]
  - ${{ each one in parameters.more }}:
      - job: j${{ one }}
        steps: [{task: AzureCLI@2, inputs: {azureSubscription: "loop-${{ one }}"}}]
""",
        "templates__deploy": DEPLOY,
        **VARIABLES,
    }
    use = one(tmp_path, **files)
    assert use.environments == {"here", "there"}
    assert set(use.connections) == {"here-arm", "there-arm", "given", "loop-x", "loop-y"}
    assert use.for_pull_requests
    files_of, stages = read_pipelines(tmp_path), ("dev", "prod")
    found = {name: files_of.stage_of(name, stages) for name in ("here", "there", "x-prod", "x")}
    assert found == {"here": "dev", "there": "prod", "x-prod": "prod", "x": "dev"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no pipelines"),
        (
            {"a_pipeline": "variables: [{group: $(Build.Reason)}]"},
            r"a_pipeline.yml.*group: \$\(Build.Reason\) has no value",
        ),
        ({"a_pipeline": "steps: [{template: nowhere.yml}]"}, "the template 'nowhere.yml' does not exist"),
        ({"a_pipeline": "steps: [{template: b.yml}]", "b": "steps: [{template: b.yml}]"}, "a template uses itself"),
        ({"a_pipeline": "a: [", "b": ""}, "cannot be read"),
        ({"a_pipeline": "- a"}, "is not a mapping of keys to values"),
        (
            {"a_pipeline": "resources: {pipelines: [{pipeline: p, source: other}]}"},
            "the source 'other', not one of a",
        ),
        ({"a_pipeline": "pool: p\nsteps: [{task: T@1, inputs: {azureSubscription: ''}}]"}, "azureSubscription"),
    ],
)
def test_what_cannot_be_known(tmp_path: Path, files: dict[str, str], words: str) -> None:
    (tmp_path / "ado_pipelines").mkdir()
    with pytest.raises(PipelineError, match=words):
        read_pipelines(write(tmp_path, **files))


def test_who_starts_whom(tmp_path: Path) -> None:
    address = "$(System.CollectionUri)$(System.TeamProject)/_apis/pipelines/$(System.DefinitionId)/runs"
    write(
        tmp_path,
        train_pipeline=f"variables: {{next: go, back: {address}}}",
        go_pipeline="resources: {pipelines: [{pipeline: p, source: train}]}",
        variables__group_variables="variables: [{name: A, required: true}, {name: B}]",
    )
    found = read_pipelines(tmp_path)
    go, train = found.pipelines
    assert (train.starts, train.called_back, go.starts, go.called_back) == ({"go"}, True, set(), False)
    assert go.sources == {"train"}
    assert found.group_variables == {"A": True, "B": False}


def test_our_pipelines_without_prod_need_one_environment(tmp_path: Path) -> None:
    """The steps of docs/how_to/devops_init.md, "One environment only"."""
    folder = tmp_path / FOLDER
    shutil.copytree(ROOT / FOLDER, folder)
    for name in ("docker_image", "model_deployment"):
        file = folder / f"{name}_pipeline.yml"
        text, found = re.subn(r"(?ms)^  - stage: production\n.*?(?=^  - stage: |\Z)", "", file.read_text())
        assert found == 1
        file.write_text(text)
    app = folder / "flask_app_deployment_pipeline.yml"
    app.write_text(app.read_text().replace("default: [dev, prod]", "default: [dev]"))
    (folder / "variables" / "prod.yml").unlink()
    uses = read_pipelines(tmp_path).pipelines
    names = {name for use in uses for name in (*use.connections, *use.environments, *use.groups)}
    assert "vision-dev" in names
    assert not [name for name in names if "prod" in name]


def test_environments_of_workflows_are_read_and_what_is_no_workflow_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "a.yml").write_text(
        "jobs: {x: {environment: dev}, y: {environment: {name: prod}}, z: {environment: '${{ inputs.place }}'}, w: {}}"
    )
    assert workflow_environments(tmp_path) == ["dev", "prod"]
    (folder / "b.yml").write_text("name: nothing")
    with pytest.raises(PipelineError, match=r"b.yml is not a workflow: it has no mapping of jobs"):
        workflow_environments(tmp_path)
