"""Blob Storage by its host name, as clients with the emulator's variables reach it: faults, and an account without keys."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from testing.support.emulator_process import EmulatorProcess, emulator

from azureml_emulator.identity.role_definitions import role_of
from azureml_emulator.identity.sign_in_routes import SERVICE_PRINCIPALS, by_secret, object_id

pytestmark = pytest.mark.slow
ACCOUNT = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg"
    "/providers/Microsoft.Storage/storageAccounts/devstoreaccount1"
)
FAULTS = ("PUT .*blob.*/own/busy 503 x2", "GET .*/own/gone drop", "PUT https://devstore.*/own/late lose")
START = """\
import sys
from datetime import UTC, datetime, timedelta
from azure.core.exceptions import AzureError, HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import (
    AccountSasPermissions, BlobServiceClient, LinearRetry, ResourceTypes, generate_account_sas, generate_container_sas,
)

URL = "https://devstoreaccount1.blob.core.windows.net"

def client(credential, retries=0):
    return BlobServiceClient(URL, credential, retry_policy=LinearRetry(0, retry_total=retries, random_jitter_range=0))

def said(work):
    try:
        work()
    except HttpResponseError as error:
        return f"{error.status_code} {getattr(error.error_code, 'value', error.error_code)}"
    except AzureError:
        return "broken"
    return "done"

"""
UNDER_FAULTS = """
token = DefaultAzureCredential()
own = client(token).create_container("own")
patient = client(token, 3).get_container_client("own")
print(said(lambda: own.upload_blob("busy", b"1")))
print(said(lambda: patient.upload_blob("busy", b"2")), said(lambda: own.upload_blob("busy", b"3", overwrite=True)))
own.upload_blob("gone", b"4")
print(said(lambda: own.download_blob("gone").readall()), patient.download_blob("gone").readall())
print(said(lambda: own.upload_blob("late", b"5")), patient.download_blob("late").readall())
own.upload_blob("x" * 40, b"6" * 9_000_000)  # in blocks
print(len(own.download_blob("x" * 40).readall()))
"""
WITH_KEYS = """
key, container = sys.argv[1], sys.argv[2]
signature = generate_account_sas(
    "devstoreaccount1", key, ResourceTypes(container=True, object=True), AccountSasPermissions(read=True, list=True),
    "2100-01-01",
)
token = DefaultAzureCredential()
end = datetime.now(UTC) + timedelta(hours=1)
delegated = generate_container_sas(
    "devstoreaccount1", container, permission="rl", expiry=end,
    user_delegation_key=client(token).get_user_delegation_key(datetime.now(UTC), end),
)
for credential in (key, signature, delegated, token):
    print(said(lambda: list(client(credential).get_container_client(container).list_blob_names())))
"""


def run_client(
    running: EmulatorProcess, folder: Path, script: str, *words: str, variables: Mapping[str, str] | None = None
) -> list[str]:
    file = folder / "client.py"
    file.write_text(START + script)
    line = [sys.executable, str(file), *words]
    ended = subprocess.run(
        line, capture_output=True, text=True, env={**running.environment, **(variables or {})}, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    options = [word for fault in FAULTS for word in ("--fault", fault)]
    with emulator(tmp_path_factory.mktemp("emulator") / "state", *options) as found:
        yield found


def test_faults_strike_storage_in_its_own_words(running: EmulatorProcess, tmp_path: Path) -> None:
    assert run_client(running, tmp_path, UNDER_FAULTS) == [
        "503 ServerBusy",
        "done done",
        "broken b'4'",
        "broken b'5'",
        "9000000",
    ]


def test_an_account_without_shared_keys_takes_tokens_only(running: EmulatorProcess, tmp_path: Path) -> None:
    def switch(allowed: bool) -> Any:
        answer = running.call("PATCH", ACCOUNT, {"properties": {"allowSharedKeyAccess": allowed}})
        answer.raise_for_status()
        return answer.json()["properties"]["allowSharedKeyAccess"]

    key = running.call("POST", f"{ACCOUNT}/listKeys").json()["keys"][0]["value"]
    store = running.call("GET", "datastores/workspaceblobstore").json()["properties"]
    assert store["credentials"]["credentialsType"] == "Sas"
    words = (key, store["containerName"])
    assert run_client(running, tmp_path, WITH_KEYS, *words) == ["done"] * 4
    assert switch(False) is False
    refused = "403 KeyBasedAuthenticationNotPermitted"
    assert run_client(running, tmp_path, WITH_KEYS, *words) == [refused, refused, "done", "done"]
    store = running.call("GET", "datastores/workspaceblobstore").json()["properties"]
    assert store["credentials"]["credentialsType"] == "None"
    assert switch(True) is True
    assert run_client(running, tmp_path, WITH_KEYS, *words) == ["done"] * 4
    assert running.call("PATCH", ACCOUNT, {"properties": {"allowSharedKeyAccess": "no"}}).status_code == 400
    assert running.call("GET", ACCOUNT.replace("devstore", "other")).status_code == 404


BY_ROLE = """
from azure.identity import EnvironmentCredential
token = EnvironmentCredential()
own = client(token).get_container_client("roles")
end = datetime.now(UTC) + timedelta(hours=1)
print(said(lambda: list(client(token).list_containers())), said(lambda: own.create_container()))
for work in (
    lambda: own.upload_blob("a", b"1", overwrite=True), lambda: own.download_blob("a").readall(),
    lambda: list(own.list_blob_names()), lambda: own.get_blob_client("b").start_copy_from_url(own.url + "/a"),
    lambda: own.delete_blob("a"), lambda: client(token).get_user_delegation_key(datetime.now(UTC), end),
):
    print(said(work))
"""
READS, WRITES, DELEGATES = [1, 2], [0, 3, 4], 5
REFUSED = "403 AuthorizationPermissionMismatch"


@pytest.mark.parametrize(
    ("client", "role", "containers", "allowed"),
    [
        ("Reader", "", ("done", REFUSED), []),
        ("Reader", "Storage Blob Data Reader", ("done", REFUSED), [*READS, DELEGATES]),
        ("Contributor", "", ("done", "409 ContainerAlreadyExists"), [DELEGATES]),
        ("AzureML Data Scientist", "", (REFUSED, REFUSED), []),
        (
            "AzureML Data Scientist",
            "Storage Blob Data Contributor",
            ("done", "409 ContainerAlreadyExists"),
            [*READS, *WRITES, DELEGATES],
        ),
    ],
)
def test_blobs_need_a_role_on_data(
    running: EmulatorProcess,
    tmp_path: Path,
    client: str,
    role: str,
    containers: tuple[str, str],
    allowed: list[int],
) -> None:
    run_client(
        running,
        tmp_path,
        'client(DefaultAzureCredential()).get_container_client("roles").exists() or '
        'client(DefaultAzureCredential()).create_container("roles")\n'
        'client(DefaultAzureCredential()).get_blob_client("roles", "a").upload_blob(b"1", overwrite=True)\n',
    )
    given = f"{ACCOUNT}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    if role:
        found = role_of(role)
        assert found is not None
        body = {"properties": {"roleDefinitionId": found.id, "principalId": object_id(SERVICE_PRINCIPALS[client])}}
        running.call("PUT", given, body).raise_for_status()
    first, *answers = run_client(running, tmp_path, BY_ROLE, variables=by_secret(client))
    running.call("DELETE", given)
    assert first == " ".join(containers)
    assert answers == ["done" if number in allowed else REFUSED for number in range(6)]
