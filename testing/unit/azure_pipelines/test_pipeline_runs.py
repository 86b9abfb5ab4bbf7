"""Runs of small pipelines: conditions, outputs, secrets, artifacts, approvals, cancellation, and starting by REST."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from testing.support.azure_pipelines.agent_machine import AgentMachine
from testing.support.azure_pipelines.known_names import KnownNames
from testing.support.azure_pipelines.organisation import Connection, Definition, Organisation
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_run import Approve, PipelineRun

from azureml_emulator.identity.loopback_tokens import TENANT, token
from azureml_emulator.identity.sign_in_routes import CLIENT

AUDIENCE = "499b84ac-1321-427f-aa17-267ca6975798"
Project = Callable[..., Organisation]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Makes a project of pipelines that are given as text, in a repository of their own."""

    def make(checks: dict[str, Approve] | None = None, **pipelines: str) -> Organisation:
        sources = tmp_path / "sources"
        (sources / "ado").mkdir(parents=True)
        for name, text in pipelines.items():
            (sources / "ado" / f"{name}.yml").write_text("pool: {vmImage: ubuntu-24.04}\n" + text)
        for words in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-qm", "x"],
        ):
            subprocess.run(["git", "-C", str(sources), *words], check=True)
        machine = AgentMachine(sources, tmp_path / "agent", {"PATH": os.environ["PATH"]}, patience=(0.3, 0.3))
        known = KnownNames(("place",), ("azure",), (), {"group": ("FROM_GROUP",)}, tuple(pipelines))
        return Organisation(
            machine, [Definition(number, name, f"ado/{name}.yml") for number, name in enumerate(pipelines, 1)],
            [Connection("azure", CLIENT, TENANT)], {"group": {"FROM_GROUP": "grouped"}}, checks or {}, known,
        )  # fmt: skip

    return make


def run(project: Project, text: str, **more: Any) -> PipelineRun:
    with project(one=text, **more) as organisation:
        return organisation.queue("one").execute()


def steps(run: PipelineRun, stage: str = "__default", job: str = "Job") -> list[tuple[str, str]]:
    return [(step.title, step.result) for step in run.stages[stage].jobs[job].steps if step.title != "checkout"]


def logged(run: PipelineRun, title: str) -> str:
    (found,) = (
        step
        for stage in run.stages.values()
        for job in stage.jobs.values()
        for step in job.steps
        if step.title == title
    )
    return found.log.strip()


def test_conditions_after_a_step_that_fails(project: Project) -> None:
    done = run(
        project,
        """
steps:
  - {script: exit 3, displayName: fails}
  - {script: 'true', displayName: default}
  - {script: 'true', displayName: always, condition: always()}
  - {script: 'true', displayName: failed, condition: failed()}
  - {script: 'true', displayName: own, condition: "eq(variables['Agent.JobStatus'], 'Failed')"}
  - {script: 'true', displayName: off, condition: always(), enabled: false}
""",
    )
    assert done.result == "Failed"
    assert steps(done) == [
        ("fails", "Failed"), ("default", "Skipped"), ("always", "Succeeded"), ("failed", "Succeeded"), ("own", "Succeeded"),
        ("off", "Skipped"),
    ]  # fmt: skip
    assert done.stages["__default"].jobs["Job"].step("fails").errors == ["the script has ended with exit code 3"]


@pytest.mark.slow
def test_a_step_may_fail_be_tried_again_and_take_too_long(project: Project) -> None:
    done = run(
        project,
        """
steps:
  - {script: exit 1, displayName: tolerated, continueOnError: true}
  - script: test -f "$AGENT_TEMPDIRECTORY/x" || { touch "$AGENT_TEMPDIRECTORY/x"; exit 1; }
    displayName: again
    retryCountOnTaskFailure: 1
  - {script: sleep 60, displayName: long, timeoutInMinutes: 0.005}
  - {script: 'echo "##vso[task.complete result=SucceededWithIssues]"', displayName: late, condition: failed()}
""",
    )
    assert steps(done) == [
        ("tolerated", "SucceededWithIssues"), ("again", "Succeeded"), ("long", "Failed"), ("late", "SucceededWithIssues"),
    ]  # fmt: skip


def test_variables_of_all_levels_and_what_steps_set(project: Project) -> None:
    done = run(
        project,
        """
variables:
  - group: group
  - {name: base, value: a}
  - {name: both, value: $(base)-$(FROM_GROUP)}
  - {name: fixed, value: f, readonly: true}
  - {name: number, value: "$[counter('x', 7)]"}
steps:
  - script: |
      echo "##vso[task.setvariable variable=later]l;1%0Atwo"
      echo "##vso[task.setvariable variable=password;issecret=true]hunter22"
      echo "##vso[task.setvariable variable=out;isOutput=true]o"
      echo "##vso[build.addbuildtag]tagged"
    name: first
    displayName: set
  - script: |
      echo "$(both) $BOTH $NUMBER $(later)"
      echo "secret: $(password) [$PASSWORD] [$MAPPED] $(first.out)"
    env: {MAPPED: $(password)}
    displayName: read
  - {script: 'echo "##vso[task.setvariable variable=fixed]x"', displayName: protected}
""",
    )
    assert logged(done, "read") == "a-grouped a-grouped 7 l;1\ntwo\nsecret: *** [] [***] o"
    assert done.published.tags == ["tagged"]
    assert done.stages["__default"].jobs["Job"].step("protected").errors == ["the variable fixed is read-only"]


OUTPUTS = """
stages:
  - stage: a
    jobs:
      - job: plain
        steps: [{name: s, script: 'echo "##vso[task.setvariable variable=v;isOutput=true]yes"'}]
      - job: after
        dependsOn: plain
        condition: eq(dependencies.plain.outputs['s.v'], 'yes')
        variables: {got: "$[ dependencies.plain.outputs['s.v'] ]"}
        steps: [{script: echo $(got), displayName: same}]
      - deployment: deployed
        environment: place
        strategy:
          runOnce:
            deploy: {steps: [{name: s, script: 'echo "##vso[task.setvariable variable=w;isOutput=true]deep"'}]}
  - stage: b
    condition: and(succeeded(), eq(dependencies.a.outputs['plain.s.v'], 'yes'))
    variables: {far: "$[ stageDependencies.a.deployed.outputs['deployed.s.w'] ]"}
    jobs: [{job: j, steps: [{script: echo $(far), displayName: other}]}]
  - stage: c
    dependsOn: [a, b]
    condition: eq(dependencies.a.outputs['plain.s.v'], 'no')
    jobs: [{job: j, steps: [{script: 'true'}]}]
  - stage: d
    jobs: [{job: j, steps: [{script: 'true'}]}]
"""


def test_outputs_reach_jobs_stages_and_conditions(project: Project) -> None:
    done = run(project, OUTPUTS)
    assert (logged(done, "same"), logged(done, "other")) == ("yes", "deep")
    assert {name: stage.result for name, stage in done.stages.items()} == {
        "a": "Succeeded", "b": "Succeeded", "c": "Skipped", "d": "Skipped",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "dependencies.plain.outputs['s.v'] ]",
            "dependencies.plain.outputs['t.v'] ]",
            "not set by any step; there are s.v",
        ),
        ("['deployed.s.w']", "['s.w']", "not set by any step; there are deployed.s.w"),
        ("stageDependencies.a", "dependencies.a", "dependencies cannot be named here"),
        (
            "dependencies.a.outputs['plain.s.v'], 'no'",
            "stageDependencies.a.plain.outputs['s.v'], 'no'",
            "cannot be named here",
        ),
        ("dependsOn: [a, b]", "dependsOn: [b]", "is not among what it depends on"),
        ("dependsOn: plain", "dependsOn: plane", "depends on 'plane', which does not exist"),
        ("environment: place", "environment: other", "the environment 'other' is not known"),
        ("echo $(far)", "echo $(near)", "the variable near is not known"),
        ("[{name: s, script", "[{script", "and has no name"),
    ],
)
def test_references_that_lead_nowhere_are_refused(project: Project, before: str, after: str, message: str) -> None:
    assert before in OUTPUTS
    with project(one=OUTPUTS.replace(before, after)) as organisation, pytest.raises(PipelineError) as refused:
        organisation.queue("one")
    assert message in str(refused.value)


DEPLOYMENT = """
stages:
  - stage: make
    jobs:
      - job: j
        steps:
          - script: echo content > "$BUILD_ARTIFACTSTAGINGDIRECTORY/file"
          - {publish: $(Build.ArtifactStagingDirectory), artifact: made}
  - stage: bring
    jobs:
      - deployment: d
        environment: place
        strategy:
          runOnce:
            preDeploy: {steps: [{script: echo before}]}
            deploy: {steps: [{script: cat "$PIPELINE_WORKSPACE/made/file"; STATUS, displayName: deploy}]}
            on:
              failure: {steps: [{script: echo back, displayName: back}]}
              success: {steps: [{script: echo done, displayName: done}]}
"""


@pytest.mark.parametrize(("status", "last"), [("exit 0", "done"), ("exit 1", "back")])
def test_a_deployment_has_the_artifacts_and_an_end_for_either_case(project: Project, status: str, last: str) -> None:
    asked: list[str] = []

    def approve(run: PipelineRun, stage: Any) -> bool:
        asked.append(stage.name)
        return True

    done = run(project, DEPLOYMENT.replace("STATUS", status), checks={"place": approve})
    assert logged(done, "deploy") == "content"
    assert [title for title, _ in steps(done, "bring", "d")][-1] == last
    assert asked == ["bring"]
    assert done.result == ("Succeeded" if status == "exit 0" else "Failed")


def test_what_is_not_approved_is_not_deployed(project: Project) -> None:
    done = run(project, DEPLOYMENT.replace("STATUS", "exit 0"), checks={"place": lambda run, stage: False})
    assert (done.result, done.stages["bring"].jobs["d"].steps) == ("Failed", [])


def test_a_cancelled_run_ends_its_step_and_cleans_up(project: Project) -> None:
    text = """
steps:
  - {script: 'trap "" INT; echo started; sleep 60', displayName: works}
  - {script: 'true', displayName: next}
  - {script: echo tidy, displayName: tidy, condition: 'or(failed(), canceled())'}
"""
    with project(one=text) as organisation:
        queued = organisation.queue("one")
        queued.watch = lambda step: queued.cancel() if step.title == "checkout" else None
        done = queued.execute()
    assert done.result == "Canceled"
    assert steps(done) == [("works", "Skipped"), ("next", "Skipped"), ("tidy", "Succeeded")]


@pytest.mark.slow
def test_a_step_that_ignores_signals_is_ended_all_the_same(project: Project, tmp_path: Path) -> None:
    text = (
        f"steps:\n  - {{script: 'trap \"\" INT TERM; echo started > {tmp_path}/started; sleep 60', displayName: works}}"
    )
    with project(one=text) as organisation:
        queued = organisation.queue("one")

        def line(cancel: Callable[[], None] = queued.cancel) -> None:
            while not (tmp_path / "started").exists():
                pass
            cancel()

        import threading

        thread = threading.Thread(target=line)
        thread.start()
        done = queued.execute()
        thread.join()
    assert steps(done) == [("works", "Canceled")]


def test_runs_are_started_by_rest_and_refused_as_the_service_does(project: Project) -> None:
    text = (
        "parameters: [{name: model, type: string}]\nsteps: [{script: 'echo ${{ parameters.model }}', displayName: say}]"
    )
    with project(one=text) as organisation, requests.Session() as session:
        session.trust_env = False
        base = f"{organisation.service.collection}{organisation.project}/_apis/pipelines"

        def post(address: str, body: Any, bearer: str = token(AUDIENCE)) -> tuple[int, str]:
            answer = session.post(address, json=body, headers={"Authorization": f"Bearer {bearer}"}, timeout=10)
            return answer.status_code, answer.text

        good = {
            "resources": {"repositories": {"self": {"refName": "refs/heads/main"}}},
            "templateParameters": {"model": "m:1"},
        }
        for status, address, body, bearer in (
            (401, f"{base}/1/runs?api-version=7.1", good, "nonsense"),
            (401, f"{base}/1/runs?api-version=7.1", good, token("https://management.azure.com")),
            (400, f"{base}/1/runs", good, token(AUDIENCE)),
            (404, f"{base}/2/runs?api-version=7.1", good, token(AUDIENCE)),
            (400, f"{base}/1/runs?api-version=7.1", {}, token(AUDIENCE)),
            (400, f"{base}/1/runs?api-version=7.1", {"templateParameters": {"other": "x"}}, token(AUDIENCE)),
            (400, f"{base}/1/runs?api-version=7.1", {"parameters": {}}, token(AUDIENCE)),
        ):
            assert post(address, body, bearer)[0] == status, (address, body)
        assert organisation.runs == []
        assert post(f"{base}/1/runs?api-version=7.1", good)[0] == 200
        assert logged(organisation.started_by_rest("one", 1).execute(), "say") == "m:1"
        with pytest.raises(TimeoutError):
            organisation.started_by_rest("one", 0.1)


def test_a_service_connection_gives_a_federated_token_to_its_own_run(project: Project) -> None:
    text = """
steps:
  - task: AzureCLI@2
    displayName: signed in
    inputs:
      {azureSubscription: azure, scriptType: bash, scriptLocation: inlineScript, inlineScript: env | grep AZURESUB | sort}
"""
    with project(one=text) as organisation:
        done = organisation.queue("one").execute()
        assert [line.partition("=")[0] for line in logged(done, "signed in").splitlines()] == [
            "AZURESUBSCRIPTION_CLIENT_ID", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "AZURESUBSCRIPTION_TENANT_ID",
        ]  # fmt: skip
        address = f"{done.predefined['System.OidcRequestUri']}?api-version=7.1&serviceConnectionId="
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {done.access_token}"
            known = session.post(address + organisation.connections[0].id, timeout=10)
            assert known.json()["oidcToken"].count(".") == 2
            assert session.post(address + "unknown", timeout=10).status_code == 404


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{task: Unknown@1}", "the task Unknown@1 is not known"),
        ("{task: PublishPipelineArtifact@1, inputs: {targetPath: none, artifact: x}}", "nothing to publish"),
        ("{task: DownloadPipelineArtifact@2, inputs: {artifactName: x}}", "no artifact 'x'"),
        (
            "{task: PublishTestResults@2, inputs: {testResultsFormat: JUnit, failTaskOnMissingResultsFile: true}}",
            "no test results",
        ),
        (
            "{task: PublishCodeCoverageResults@2, inputs: {summaryFileLocation: c.xml, failIfCoverageEmpty: true}}",
            "no coverage",
        ),
        ("{script: 'echo \"##vso[task.unknown]\"; exit 1'}", "does not know ##vso[task.unknown]"),
        ("{script: 'true', workingDirectory: missing}", "does not exist"),
    ],
)
def test_steps_that_cannot_be_done_fail(project: Project, step: str, message: str) -> None:
    done = run(project, f"steps:\n  - {step}")
    assert message in " ".join(done.stages["__default"].jobs["Job"].steps[-1].errors)
    assert done.result == "Failed"


def test_results_of_tests_and_coverage_are_read(project: Project) -> None:
    done = run(
        project,
        """
steps:
  - script: |
      echo '<testsuites><testsuite tests="3" failures="1" errors="0"/></testsuites>' > unit.xml
      echo '<coverage line-rate="0.75"><packages><package><class/></package></packages></coverage>' > c.xml
  - task: PublishCodeCoverageResults@2
    inputs: {summaryFileLocation: c.xml}
  - task: PublishTestResults@2
    inputs: {testResultsFormat: JUnit, testResultsFiles: '*.xml', failTaskOnFailedTests: true}
""",
    )
    assert done.published.coverage == [0.75]
    assert done.published.tests == [(3, 1)]
    assert steps(done)[-1] == ("PublishTestResults@2", "Failed")
