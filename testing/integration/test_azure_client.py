"""How the sign-in and the client behave, and how mistakes with them are worded."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from testing.support.places import Place

from azureml_emulator.identity.loopback_tokens import LoopbackCredential
from azureml_emulator.identity.sign_in_routes import CLIENT, by_federation
from azureml_emulator.rest.faults import Faults
from vision_mlops.azure.azure_errors import azure_errors, is_missing, is_transient, retry_after
from vision_mlops.azure.clients import check_workspace, ml_client, registry_client
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
        pytest.raises(AzureError, match=r"Azure is not reached: .*\n  -> check the network and proxy") as raised,
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


def test_nothing_of_azure_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, vision_mlops.jobs.azureml.azure_jobs, vision_mlops.jobs.azureml.published_pipelines,"
        " vision_mlops.jobs.azureml.schedules, vision_mlops.registry.azureml.azureml_registry;"
        "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'msal', 'torch', 'mlflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
