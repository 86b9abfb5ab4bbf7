"""How the sign-in and the client behave, and how mistakes with them are worded."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from testing.support.places import Place
from testing.support.web_server import Page, Site, serving

from azureml_emulator.identity.loopback_tokens import TENANT, LoopbackCredential, token
from azureml_emulator.identity.sign_in_routes import CLIENT, by_federation, by_pipeline, by_secret
from azureml_emulator.rest.faults import Faults
from vision_mlops.azure.azure_errors import azure_errors, is_missing, is_transient, retry_after
from vision_mlops.azure.clients import check_workspace, ml_client, registry_client, vault_client
from vision_mlops.azure.devops_sign_in import service_token
from vision_mlops.azure.pipeline_sign_in import _warn_of_an_early_end
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError, ConfigError, MissingExtraError


def test_the_default_sign_in_reaches_the_workspace(place: Place) -> None:
    assert check_workspace(place.client, place.settings).name == place.settings.workspace_name


def test_workload_identity_needs_no_secret(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = place.loopback
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential")
    for name, value in by_federation(tmp_path / "token").items():
        monkeypatch.setenv(name, value)
    assert check_workspace(ml_client(place.settings), place.settings).name == cloud.workspace


def _in_pipeline(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*by_secret(), "AZURE_TOKEN_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in by_pipeline(place.loopback.url).items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_a_pipeline_signs_in_by_its_service_connection_for_as_long_as_it_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = place.loopback
    _in_pipeline(place, monkeypatch)
    cloud.sign_in.seconds = 2
    client = ml_client(place.settings)
    assert not cloud.seen("oidctoken")
    assert check_workspace(client, place.settings).name == cloud.workspace
    time.sleep(2.1)  # the first token has ended, and so would a login by `az`
    assert check_workspace(client, place.settings).name == cloud.workspace
    assert len(cloud.seen("oidctoken")) == 2


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SYSTEM_ACCESSTOKEN", "wrong", "TF400813: The user is not authorized"),
        ("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", CLIENT, "The service connection does not exist"),
        ("AZURESUBSCRIPTION_CLIENT_ID", CLIENT.replace("3", "4"), "AADSTS700016"),
    ],
)
def test_a_pipeline_that_cannot_sign_in(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    _in_pipeline(place, monkeypatch)
    monkeypatch.setenv(variable, value)
    with pytest.raises(AzureError, match=message):
        check_workspace(ml_client(place.settings), place.settings)


def test_what_is_chosen_wins_over_the_pipeline_and_over_the_user_of_a_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_pipeline(place, monkeypatch)
    for name, value in {**by_secret(), "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OBO_ENDPOINT", "http://127.0.0.1:9/obo")
    assert check_workspace(ml_client(place.settings), place.settings).name == place.loopback.workspace
    assert not place.loopback.seen("oidctoken")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzurePipelinesCredential")
    assert check_workspace(ml_client(place.settings), place.settings).name == place.loopback.workspace
    assert place.loopback.seen("oidctoken")
    monkeypatch.delenv("SYSTEM_OIDCREQUESTURI")
    with pytest.raises(AzureError, match="SYSTEM_OIDCREQUESTURI\n  -> set azureSubscription"):
        ml_client(place.settings)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzurePipelineCredential")
    with pytest.raises(AzureError, match="sign-in: unknown AZURE_TOKEN_CREDENTIALS=AzurePipelineCredential") as refused:
        ml_client(place.settings)
    assert refused.value.hint.startswith("did you mean 'AzurePipelinesCredential'? Valid here: dev, prod, Env")
    assert refused.value.hint.endswith("GitHubActionsCredential")


def test_a_pipeline_without_its_own_token_is_told_that_the_sign_in_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _in_pipeline(place, monkeypatch)
    monkeypatch.delenv("SYSTEM_ACCESSTOKEN")
    _warn_of_an_early_end.cache_clear()
    for _ in range(2):
        ml_client(place.settings)
    assert caplog.text.count("SYSTEM_ACCESSTOKEN is not set") == 1
    assert "env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}" in caplog.text


def _in_workflow(place: Place, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name in (*by_secret(), "AZURE_TOKEN_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    found = {"AZURE_CLIENT_ID": CLIENT, "AZURE_TENANT_ID": TENANT}
    found |= {"ACTIONS_ID_TOKEN_REQUEST_URL": address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "token-of-the-job"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)


def test_a_workflow_on_github_signs_in_by_its_token(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = place.loopback
    with serving(Site()) as site:
        site.pages["/token?audience=api://AzureADTokenExchange&run=1"] = Page(
            json.dumps({"value": token("api://AzureADTokenExchange")}).encode()
        )
        _in_workflow(place, monkeypatch, f"{site.address}/token?run=1")
        assert check_workspace(ml_client(place.settings), place.settings).name == cloud.workspace
        _in_workflow(place, monkeypatch, f"{site.address}/elsewhere")
        with pytest.raises(AzureError, match="GitHub issues no token for the workflow") as error:
            check_workspace(ml_client(place.settings), place.settings)
        assert "id-token: write" in error.value.hint
        assert "token-of-the-job" not in str(error.value)
        monkeypatch.delenv("AZURE_CLIENT_ID")
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "GitHubActionsCredential")
        with pytest.raises(AzureError, match="but these are not set: AZURE_CLIENT_ID"):
            ml_client(place.settings)


def test_a_token_for_azure_devops_and_one_that_a_vault_holds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = place.loopback
    monkeypatch.delenv("SYSTEM_ACCESSTOKEN", raising=False)
    claims = jwt.decode(service_token("Azure DevOps"), options={"verify_signature": False})
    assert claims["aud"] == "499b84ac-1321-427f-aa17-267ca6975798"
    monkeypatch.setenv("MLOPS_AZURE_KEY_VAULT", cloud.url)
    vault_client(AzureSettings.load()).set_secret("github-token", "the token")
    assert service_token("GitHub", secret=f"{cloud.url}/secrets/github-token") == "the token"
    with pytest.raises(AzureError, match="secret 'nothing'"):
        service_token("GitHub", secret=f"{cloud.url}/secrets/nothing")


@pytest.mark.slow
@pytest.mark.parametrize("credential", [None, LoopbackCredential()])
def test_a_proxy_that_is_not_there_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch, credential: LoopbackCredential | None
) -> None:
    """Where the emulator has ended, neither the sign-in nor the service is heard of, and the sign-in is not at fault."""
    _ = place.loopback
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        proxy = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
        monkeypatch.setenv("https_proxy", f"http://{proxy}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        client = ml_client(place.settings, credential)
        with (
            pytest.raises(AzureError, match=rf"the proxy {proxy}, which HTTPS_PROXY names, does not respond"),
            azure_errors("workspace"),
        ):
            client._service_client_04_2023_preview.workspaces.get("rg", "ws", retry_total=0)


def test_two_clouds_of_one_name_are_kept_apart(place: Place) -> None:
    _ = place.loopback
    elsewhere = place.settings.model_copy(update={"resource_manager": "https://127.0.0.1:9"})
    ml_client(elsewhere, LoopbackCredential())
    assert check_workspace(ml_client(place.settings), place.settings).name == place.settings.workspace_name


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AZURE_CLIENT_SECRET", "wrong", r"workspace 'ws': not signed in to Azure: .*\n  -> run `az login`, or export"),
        ("AZURE_CLIENT_SECRET", "", r"sign-in: .*client secret\n  -> run `az login`"),
        ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential", r"not signed in to Azure: .*\n  -> run `az login`"),
        ("AZURE_CLIENT_ID", CLIENT.replace("3", "4"), r"not signed in to Azure"),
    ],
)
def test_a_failed_sign_in_says_how(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    _ = place.loopback
    monkeypatch.setenv(variable, value)
    with pytest.raises(AzureError, match=message):
        check_workspace(ml_client(place.settings), place.settings)


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (LoopbackCredential(audience="https://elsewhere"), "InvalidAuthenticationTokenAudience"),
        (LoopbackCredential(seconds=-60), "ExpiredAuthenticationToken"),
    ],
)
def test_a_refused_token(place: Place, credential: LoopbackCredential, code: str) -> None:
    _ = place.loopback
    with pytest.raises(AzureError, match=rf"HTTP 401 {code}\)\n  -> the sign-in is not valid here") as raised:
        check_workspace(ml_client(place.settings, credential), place.settings)
    assert raised.value.status == 401


def test_a_missing_workspace_names_the_settings(place: Place) -> None:
    settings = place.settings.model_copy(update={"workspace_name": "nowhere"})
    with pytest.raises(AzureError, match=r"workspace 'nowhere': .*HTTP 404.*\n  -> check AZUREML_WORKSPACE_NAME"):
        check_workspace(ml_client(settings), settings)


def test_a_registry_that_is_not_named_or_not_there(place: Place) -> None:
    with pytest.raises(ConfigError, match="AZUREML_REGISTRY_NAME is not set"):
        registry_client(place.settings.model_copy(update={"registry_name": None}))
    with pytest.raises(AzureError, match="HTTP 404"):
        registry_client(place.settings, name="nowhere")


def test_a_service_that_is_not_there(place: Place) -> None:
    _ = place.loopback
    settings = place.settings.model_copy(update={"resource_manager": "https://127.0.0.1:9"})
    client = ml_client(settings, LoopbackCredential())
    with (
        pytest.raises(AzureError, match=r"Azure cannot be reached: .*\n  -> check the network and proxy") as raised,
        azure_errors("workspace"),
    ):
        client._service_client_04_2023_preview.workspaces.get("rg", "ws", retry_total=0)
    assert is_transient(raised.value)
    assert not is_missing(raised.value)


def test_throttling_says_how_long_to_wait(place: Place, faults: Faults) -> None:
    from azureml_emulator.loopback import loopback_client

    faults.throttle("ws", retry_after=7)
    with pytest.raises(AzureError, match=r"HTTP 429 TooManyRequests\)\n  -> Azure limits the number") as raised:
        check_workspace(loopback_client(place.loopback, retry_total=0), place.settings)
    assert retry_after(raised.value) == 7
    assert is_transient(raised.value)


def test_errors_of_others_pass_through() -> None:
    with pytest.raises(KeyError), azure_errors("something"):
        raise KeyError("x")
    with pytest.raises(MissingExtraError, match=r"pip install 'vision-mlops\[azure\]'"), azure_errors("something"):
        raise ModuleNotFoundError("No module named 'azure'", name="azure")
    with pytest.raises(ModuleNotFoundError), azure_errors("something"):
        raise ModuleNotFoundError("No module named 'other'", name="other")
    with pytest.raises(AzureError, match="storage: the key is wrong"), azure_errors("storage"):
        raise Exception("the key\n is wrong")


def test_errors_are_told_without_the_packages_that_only_other_commands_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployed web frontend has neither azure-ai-ml nor what comes with it."""
    from azure.core.exceptions import ServiceRequestError

    monkeypatch.setitem(sys.modules, "marshmallow", None)
    with pytest.raises(AzureError, match="token: Azure cannot be reached: no route"), azure_errors("token"):
        raise ServiceRequestError("no route")
    with pytest.raises(ZeroDivisionError), azure_errors("token"):
        raise ZeroDivisionError
    with pytest.raises(MissingExtraError, match="'azure-mgmt-web'"), azure_errors("web app"):
        raise ModuleNotFoundError("No module named 'azure.mgmt.web'", name="azure.mgmt.web")


def test_a_wrong_definition_is_one_line(place: Place, tmp_path: Path) -> None:
    from azure.ai.ml import load_job

    (tmp_path / "job.yml").write_text("type: command\ncommand: echo\nenvironment: azureml:e:1\ncolour: red\n")
    with pytest.raises(AzureError) as raised, azure_errors("job.yml"):
        load_job(tmp_path / "job.yml")
    assert "\n" not in raised.value.message
    assert "colour" in raised.value.message


def test_the_sdk_is_silent_and_sends_no_telemetry(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    check_workspace(place.client, place.settings)
    list(place.client.schedules.list())
    assert capfd.readouterr() == ("", "")
    assert place.client._operation_config.enable_telemetry is False
    assert logging.getLogger("azure.ai.ml").level == logging.CRITICAL


@pytest.mark.slow
def test_nothing_of_azure_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, vision_mlops.jobs.azureml.azure_jobs, vision_mlops.jobs.azureml.published_pipelines,"
        " vision_mlops.jobs.azureml.schedules, vision_mlops.registry.azureml.azureml_registry;"
        "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'msal', 'torch', 'mlflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
