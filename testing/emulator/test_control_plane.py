"""The loopback cloud and the real SDK: who may call, what is missing, and what breaks on the way."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import LoopbackCredential, token
from azureml_emulator.identity.sign_in_routes import by_federation, by_secret
from azureml_emulator.loopback import loopback_client
from azureml_emulator.storage.azurite import Azurite, AzuriteError, install

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def _status(cloud: EmulatedCloud, path: str, body: bytes | None = None, authorization: str = "") -> tuple[int, str]:
    """Status and error code of a request that is made by hand: a PUT where it has a body."""
    import os

    request = urllib.request.Request(
        f"{cloud.url}{path}?api-version=2024-04-01", data=body, method="PUT" if body is not None else "GET"
    )
    request.add_header("Authorization", authorization)
    trust = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    try:
        with urllib.request.urlopen(request, context=trust) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["error"]["code"]


def test_a_workspace_is_found(client: MLClient, cloud: EmulatedCloud) -> None:
    found = client.workspaces.get(cloud.workspace)
    assert (found.name, found.location) == ("ws", "westeurope")


def test_a_missing_workspace_is_named(cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="workspaces/other") as raised:
        loopback_client(cloud, workspace_name="other").compute.get("cpu-cluster")
    assert raised.value.status_code == 404


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (LoopbackCredential(audience="https://elsewhere"), "InvalidAuthenticationTokenAudience"),
        (LoopbackCredential(seconds=-60), "ExpiredAuthenticationToken"),
    ],
)
def test_a_bad_token_is_refused(cloud: EmulatedCloud, credential: LoopbackCredential, code: str) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    with pytest.raises(ClientAuthenticationError, match=code):
        loopback_client(cloud, credential).workspaces.get(cloud.workspace)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "AuthenticationFailed"),
        ("Basic eDp5", "AuthenticationFailed"),
        ("Bearer a.b.c", "InvalidAuthenticationToken"),
        ("Bearer " + token("https://ml.loopback") + "x", "InvalidAuthenticationToken"),
    ],
)
def test_a_malformed_token_is_refused(cloud: EmulatedCloud, authorization: str, code: str) -> None:
    assert _status(cloud, cloud.path(), authorization=authorization) == (401, code)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/jobs/a", b"{", 400, "InvalidRequestContent"),
        ("/jobs/a", b"[1]", 400, "InvalidRequestContent"),
        ("/jobs/a", b"{}", 400, "UserError"),
        ("/jobs/a", b'{"properties": {"jobType": "Labeling"}}', 400, "UserError"),
        ("/data/a/versions/1", b'{"properties": {"dataType": "uri_file"}}', 400, "UserError"),
        ("/computes/a", b'{"properties": {"computeType": "Toaster"}}', 400, "UserError"),
        ("/schedules/a", b'{"properties": {"action": {"actionType": "CreateJob"}}}', 400, "UserError"),
        ("/nothing/a", b"{}", 404, "NoRegisteredProviderFound"),
        ("/jobs/a", b'{"properties": {"jobType": "Command", "command": 5, "environmentId": "e"}}', 400, "UserError"),
        ("/jobs/a", b'{"properties": {"jobType": "Command", "command": "ls"}}', 400, "UserError"),
        ("/jobs/a", b'{"properties": {"jobType": "Pipeline", "jobs": []}}', 400, "UserError"),
        ("/jobs/a", b'{"properties": {"jobType": "Sweep", "objective": {}}}', 400, "UserError"),
        ("/onlineEndpoints/abc", b'{"properties": {"authMode": "Key"}}', 400, "LocationRequired"),
        ("/onlineEndpoints/abc", b'{"location": "x", "properties": {}}', 400, "UserError"),
        ("/onlineEndpoints/abc", b'{"location": "x", "properties": {"authMode": "Key", "traffic": 1}}', 400, "UserError"),
        ("/batchEndpoints/abc", b'{"location": "x", "properties": {"authMode": 1}}', 400, "UserError"),
        ("/computes/a", b'{"properties": {"computeType": "AmlCompute", "properties": "small"}}', 400, "UserError"),
        ("/environments/a/versions/1", b'{"properties": {"image": ["a"]}}', 400, "UserError"),
        ("/models/a/versions/1", b'{"properties": {"modelUri": 5}}', 400, "UserError"),
        ("/components/a/versions/1", b'{"properties": {"componentSpec": "c"}}', 400, "UserError"),
        ("/datastores/a", b'{"properties": {"datastoreType": {}}}', 400, "UserError"),
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused(cloud: EmulatedCloud, path: str, body: bytes, status: int, code: str) -> None:
    authorization = f"Bearer {token(cloud.url)}"
    assert _status(cloud, cloud.path() + path, body, authorization) == (status, code)


def test_the_real_sign_in_by_secret_and_by_federation(
    cloud: EmulatedCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity import DefaultAzureCredential

    for variables in (by_secret(), by_federation(tmp_path / "token")):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with DefaultAzureCredential(authority=cloud.url, disable_instance_discovery=True) as credential:
                assert loopback_client(cloud, credential).workspaces.get("ws").name == "ws"


def test_a_wrong_secret_is_refused(cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ClientSecretCredential

    variables = by_secret()
    arguments = {"authority": cloud.url, "disable_instance_discovery": True}
    wrong = ClientSecretCredential(cloud.tenant, variables["AZURE_CLIENT_ID"], "guess", **arguments)
    with wrong as credential, pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        loopback_client(cloud, credential).workspaces.get("ws")


def test_throttling_is_waited_out(client: MLClient, cloud: EmulatedCloud) -> None:
    cloud.faults.throttle("computes", times=3)
    assert client.compute.get("cpu-cluster").name == "cpu-cluster"
    assert [item.status for item in cloud.seen("/computes/")] == [429, 429, 429, 200]
    assert cloud.faults.pending == 0


@pytest.mark.parametrize("status", [500, 503])
def test_a_broken_server_is_asked_again(client: MLClient, cloud: EmulatedCloud, status: int) -> None:
    cloud.faults.fail("computes", status, times=2)
    assert client.compute.get("cpu-cluster").name == "cpu-cluster"
    assert [item.status for item in cloud.seen("/computes/")] == [status, status, 200]


def test_a_broken_connection_is_tried_again(client: MLClient, cloud: EmulatedCloud) -> None:
    cloud.faults.drop("computes")
    assert client.compute.get("cpu-cluster").name == "cpu-cluster"
    assert [item.status for item in cloud.seen("/computes/")] == [0, 200]


def test_in_the_end_the_sdk_gives_up(cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import HttpResponseError, ServiceResponseError

    client = loopback_client(cloud, retry_total=1)
    cloud.faults.fail("computes", 503, times=2)
    with pytest.raises(HttpResponseError, match="ServiceUnavailable"):
        client.compute.get("cpu-cluster")
    cloud.faults.drop("computes", times=2)
    with pytest.raises(ServiceResponseError):
        client.compute.get("cpu-cluster")


def test_a_fault_strikes_only_what_it_names(client: MLClient, cloud: EmulatedCloud) -> None:
    cloud.faults.fail("jobs", 500, method="PUT")
    assert client.compute.get("cpu-cluster").name == "cpu-cluster"
    assert list(client.jobs.list()) == []
    assert cloud.faults.pending == 1


def test_a_cluster_is_made_and_deleted_by_long_running_operations(client: MLClient, cloud: EmulatedCloud) -> None:
    from azure.ai.ml.entities import AmlCompute
    from azure.core.exceptions import ResourceNotFoundError

    cloud.operations.polls = 3
    poller = client.compute.begin_create_or_update(AmlCompute(name="gpu", size="Standard_NC4as_T4_v3", max_instances=2))
    assert poller.status() == "InProgress"
    assert poller.result().provisioning_state == "Succeeded"
    assert len(cloud.seen("/operations/")) >= 3
    assert [item.name for item in client.compute.list()] == ["cpu-cluster", "gpu"]
    client.compute.begin_delete("gpu").result()
    with pytest.raises(ResourceNotFoundError):
        client.compute.get("gpu")


def test_sizes_and_quota_are_listed(client: MLClient) -> None:
    assert "Standard_DS3_v2" in [size.name for size in client.compute.list_sizes()]
    assert all((usage.limit or 0) > (usage.current_value or 0) for usage in client.compute.list_usage())


def test_lists_come_in_pages(client: MLClient, cloud: EmulatedCloud) -> None:
    cloud.page_size = 2
    for number in range(5):
        cloud.add_compute(f"cluster-{number}")
    assert len(list(client.compute.list())) == 6
    assert len(cloud.seen("/computes")) == 3


def test_the_default_datastore_is_known(client: MLClient, cloud: EmulatedCloud) -> None:
    found = client.datastores.get_default(include_secrets=True)
    assert (found.name, found.account_name) == ("workspaceblobstore", "devstoreaccount1")
    assert found.credentials.sas_token
    assert {item.name for item in client.datastores.list()} == {"workspaceblobstore", "workspaceartifactstore"}


def test_each_test_starts_with_an_empty_workspace(client: MLClient, cloud: EmulatedCloud) -> None:
    assert [item.name for item in client.compute.list()] == ["cpu-cluster"]
    assert list(client.models.list()) == []
    cloud.reset()
    assert cloud.seen() == []


def test_azurite_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azureml_emulator.storage.azurite.VERSION", "0.0.0-none")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(AzuriteError, match=r"npm could not install azurite 0\.0\.0-none"):
        install(tmp_path / "azurite")


def test_azurite_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "main.js"
    script.write_text("console.log('no port is free'); process.exit(1)")
    monkeypatch.setattr("azureml_emulator.storage.azurite.install", lambda: script)
    with pytest.raises(AzuriteError, match="no port is free"):
        Azurite().start()
