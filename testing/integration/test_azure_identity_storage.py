"""A workspace whose storage account takes no keys: all that `mlops` sends and reads there goes with tokens."""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from testing.support.azure_project import write_project
from testing.support.places import Place

from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.jobs.job_executor import CommandExecutor
from azureml_emulator.loopback import loopback_client
from vision_mlops import storage
from vision_mlops.azure.clients import ml_client
from vision_mlops.core.errors import AzureError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keyless(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The loopback cloud with shared keys off, and a client that was made afterwards."""
    from azure.ai.ml.constants._common import STORAGE_ACCOUNT_URLS

    cloud = place.loopback
    cloud.turn_shared_keys_off()
    monkeypatch.setitem(STORAGE_ACCOUNT_URLS, "AzureBlob", cloud.blobs.account_url)
    return Place(place.settings, ml_client(place.settings), cloud)


def _get(url: str, authorization: str = "") -> tuple[int, str]:
    headers = {"x-ms-version": "2021-12-02", **({"Authorization": authorization} if authorization else {})}
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, str(error.headers["x-ms-error-code"])


def test_keys_and_what_was_made_with_them_are_refused(keyless: Place) -> None:
    cloud = keyless.loopback
    container = cloud.container("workspaceblobstore")
    cloud.blobs.write(container, "a/b c", b"1")
    url = cloud.blobs.url(container, "a/b%20c")
    assert url.startswith("https://")
    refused = (403, "KeyBasedAuthenticationNotPermitted")
    assert _get(f"{url}?{cloud.blobs.signature(container)}") == refused
    assert _get(url, "SharedKey devstoreaccount1:c2lnbmF0dXJl") == refused
    assert _get(url, f"Bearer {token('https://storage.azure.com')}") == (200, "")
    assert _get(url, f"Bearer {token('https://elsewhere')}") == (401, "InvalidAuthenticationInfo")
    assert _get(f"{url}x", f"Bearer {token('https://storage.azure.com')}") == (404, "BlobNotFound")
    store = keyless.client.datastores.get("workspaceblobstore")
    assert type(store.credentials).__name__ == "NoneCredentialConfiguration"


def test_files_go_up_and_come_down(keyless: Place, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/ü 1.txt").write_text("one")
    place = storage.locate("azureml://datastores/workspaceblobstore/paths/x", keyless.settings, client=keyless.client)
    assert place.sign_in.kind == "identity"
    assert storage.upload(folder, place).transferred.files == 1
    storage.download(place, tmp_path / "back")
    assert (tmp_path / "back/deep/ü 1.txt").read_text() == "one"


def test_the_sdk_alone_cannot_upload_code_there(keyless: Place, tmp_path: Path) -> None:
    """The reason for `azure/code_uploads.py`; where this fails, the SDK can do it, and the module can go."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment
    from azure.ai.ml.exceptions import AssetException

    keyless.client.environments.create_or_update(Environment(name="x", version="1", image="python:3.11"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("print(1)\n")
    job = command(command="python a.py", code=str(tmp_path / "src"), environment="azureml:x:1", compute="cpu-cluster")
    with pytest.raises(AssetException, match="KeyBasedAuthenticationNotPermitted"):
        loopback_client(keyless.loopback).jobs.create_or_update(job)


@pytest.mark.slow
def test_a_job_with_code_and_data_runs_and_comes_back(keyless: Place, tmp_path: Path, run: Run) -> None:
    cloud = keyless.loopback
    cloud.executor = CommandExecutor()
    project = write_project(tmp_path / "project")
    code, out, err = run("job", "run", project / "pipeline.yml", "--on", "azure")
    assert code == 0, err
    assert "one: 2 files" in err  # its log was read with a token, too
    name = out.split(":")[0]
    assert not cloud.seen("startPendingUpload")
    (version,) = [item for item in cloud.store.below(f"{cloud.path()}/codes") if "codeUri" in item.properties]
    container, path = cloud.blobs.split(version.properties["codeUri"])
    assert container == cloud.container("workspaceblobstore")
    assert cloud.blobs.names(container, path) == [f"{path}/count.py"]
    code, out, err = run("job", "download", name, "--out", tmp_path / "results")
    assert code == 0, err
    assert (tmp_path / "results/counted/count.txt").read_text() == "one 2"


def test_a_model_is_registered_and_downloaded(keyless: Place, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Model

    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("1")
    keyless.client.models.create_or_update(Model(name="m", version="1", path=tmp_path / "model", type="custom_model"))
    keyless.client.models.download("m", "1", download_path=tmp_path / "back")
    assert (tmp_path / "back/m/model/weights").read_text() == "1"


def test_a_key_in_the_environment_is_refused_with_what_to_do(
    keyless: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/a").write_text("1")
    cloud = keyless.loopback
    container = cloud.container("workspaceblobstore")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", cloud.blobs.signature(container, write=True))
    place = storage.locate(cloud.blobs.url(container, "x"), keyless.settings)
    with pytest.raises(
        AzureError, match=r"KeyBasedAuthenticationNotPermitted\)\n  -> the account does not accept keys: unset"
    ):
        storage.upload(tmp_path / "f", place)


def test_keys_are_taken_again_after_a_reset(keyless: Place) -> None:
    cloud = keyless.loopback
    cloud.reset()
    assert cloud.blobs.account_url.startswith("http://")
    assert cloud.store.get(cloud.path()).properties["systemDatastoresAuthMode"] == "AccessKey"
    assert keyless.client.datastores.get("workspaceblobstore").credentials.type == "sas"
