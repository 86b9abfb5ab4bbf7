"""Starting the next run: what is sent to Azure DevOps and GitHub, what is sent again, and what their refusals say."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from testing.support.run_services import TOKEN, RunServices, run_services

from vision_mlops.cli.main import main
from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.devops.run_start import named_pipeline, run_address, start_run


@pytest.fixture
def services() -> Iterator[RunServices]:
    with run_services() as running:
        yield running


@pytest.mark.parametrize(
    ("text", "url", "service"),
    [
        (
            "https://dev.azure.com/o/p/_apis/pipelines/12/runs",
            "https://dev.azure.com/o/p/_apis/pipelines/12/runs?api-version=7.1",
            "Azure DevOps",
        ),
        (
            "https://o.visualstudio.com/my project/_apis/pipelines/3/runs/?api-version=6.0",
            "https://o.visualstudio.com/my%20project/_apis/pipelines/3/runs?api-version=7.1",
            "Azure DevOps",
        ),
        ("https://api.github.com/repos/o/n.e/dispatches", "https://api.github.com/repos/o/n.e/dispatches", "GitHub"),
        (
            "https://github.firm/api/v3/repos/o/n/dispatches",
            "https://github.firm/api/v3/repos/o/n/dispatches",
            "GitHub",
        ),
        ("http://127.0.0.1:8/repos/o/n/dispatches", "http://127.0.0.1:8/repos/o/n/dispatches", "GitHub"),
    ],
)
def test_addresses_of_both_services_are_read(text: str, url: str, service: str) -> None:
    address = run_address(text)
    assert (address.url, address.service) == (url, service)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://dev.azure.com/o/p/_apis/pipelines/12/runs", "is not an https address"),
        ("https://me:secret@dev.azure.com/o/p/_apis/pipelines/12/runs", "is not an https address"),
        ("https://dev.azure.com:x/o/p/_apis/pipelines/12/runs", "is not an https address"),
        ("https:///p/_apis/pipelines/12/runs", "is not an https address"),
        ("https://dev.azure.com/o/p/_apis/pipelines/name/runs", "is not of a pipeline or workflow"),
        ("https://dev.azure.com/o/p/_apis/build/builds", "is not of a pipeline or workflow"),
        ("https://api.github.com/repos/o/dispatches", "is not of a pipeline or workflow"),
    ],
)
def test_other_addresses_get_no_token(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run_address(text)


def test_a_pipeline_is_found_by_its_name_and_started_with_parameters(services: RunServices) -> None:
    address = named_pipeline(f"{services.url}/org/project", "model_deployment", TOKEN)
    assert address.url.startswith(f"{services.url}/org/project/_apis/pipelines/8/runs")
    told = start_run(address, {"model": "textile:3"}, TOKEN)
    assert told == f"run 41 at {services.url}/org/project/_build/results?buildId=41"
    assert services.started == [{"templateParameters": {"model": "textile:3"}}]
    assert named_pipeline(f"{services.url}/org/project", "8", TOKEN) == address


def test_workflows_get_an_event(services: RunServices) -> None:
    address = run_address(f"{services.url}/repos/owner/name/dispatches")
    assert "model-registered" in start_run(address, {"registered": "textile:3"}, TOKEN)
    assert services.started == [{"event_type": "model-registered", "client_payload": {"registered": "textile:3"}}]


def test_a_service_that_is_busy_is_asked_again_and_a_lost_answer_starts_no_second_run(services: RunServices) -> None:
    address = run_address(f"{services.url}/org/project/_apis/pipelines/7/runs")
    services.first = [429, 503]
    assert "run 41" in start_run(address, {}, TOKEN)
    assert len(services.started) == 3
    services.first = [0]
    with pytest.raises(AzureError, match=r"the connection to Azure DevOps at .* was lost"):
        start_run(address, {}, TOKEN)
    assert len(services.started) == 4


@pytest.mark.parametrize(
    ("path", "token", "parameters", "told", "hint"),
    [
        ("org/project/_apis/pipelines/7/runs", "no", {}, r"asks for a sign-in \(HTTP 203\)", "right to queue builds"),
        ("org/project/_apis/pipelines/9/runs", TOKEN, {}, r"TF51011: .* \(HTTP 404\)", "check the address"),
        ("org/project/_apis/pipelines/7/runs", TOKEN, {"x": "1"}, "Unexpected parameter 'x'", ""),
        ("repos/owner/name/dispatches", "no", {}, r"Bad credentials \(HTTP 401\)", "write the contents"),
    ],
)
def test_refusals_say_what_to_do(
    services: RunServices, path: str, token: str, parameters: dict[str, str], told: str, hint: str
) -> None:
    with pytest.raises(AzureError, match=told) as error:
        start_run(run_address(f"{services.url}/{path}"), parameters, token)
    assert hint in error.value.hint
    assert token not in str(error.value) or token == TOKEN


def test_an_unknown_name_is_told_with_the_nearest(services: RunServices) -> None:
    with pytest.raises(AzureError, match="no pipeline 'model_deploiment'") as error:
        named_pipeline(f"{services.url}/org/project", "model_deploiment", TOKEN)
    assert "did you mean 'model_deployment'?" in error.value.hint


def _mlops(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mlops", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_takes_the_pipeline_that_it_is_a_step_of(
    services: RunServices, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("devops", "start", "model_deployment", "--parameter", "model=textile:3", "-p", "digest=ab")
    assert _mlops(monkeypatch, *words) == 2
    assert "the organization or the project is not given" in capsys.readouterr().err
    monkeypatch.setenv("SYSTEM_COLLECTIONURI", f"{services.url}/org/")
    monkeypatch.setenv("SYSTEM_TEAMPROJECT", "project")
    monkeypatch.setenv("SYSTEM_ACCESSTOKEN", TOKEN)
    assert _mlops(monkeypatch, *words) == 0
    assert capsys.readouterr().out.startswith("model_deployment: started run 41 at ")
    assert services.started == [{"templateParameters": {"model": "textile:3", "digest": "ab"}}]
