"""Where addresses lead, how one signs in there, and that no secret is ever shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testing.support.blob_containers import contents, write
from testing.support.places import Place as Workspace
from testing.support.proxy import proxied

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.storage.azurite import Azurite
from vision_mlops import storage
from vision_mlops.core.errors import AzureError, DataError


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("datastore:workspaceblobstore/photos/x", "sas"),
        ("azureml://datastores/workspaceblobstore/paths/photos/x", "sas"),
        ("azureml://datastores/workspaceartifactstore/paths/photos/x", "key"),
        (
            "azureml://subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/rg/workspaces/ws/datastores"
            "/workspaceblobstore/paths/photos/x",
            "sas",
        ),
    ],
)
def test_a_folder_goes_through_a_datastore_and_back(place: Workspace, tmp_path: Path, form: str, kind: str) -> None:
    cloud: EmulatedCloud = place.loopback
    folder = write(tmp_path / "f", {"a.txt": b"one", "b/ü c.txt": b"two"})
    found = storage.locate(form, place.settings)
    assert found.sign_in.kind == kind
    summary = storage.upload(folder, found)
    assert summary.ok
    assert summary.transferred.files == 2
    container = cloud.container("workspaceblobstore" if kind == "sas" else "workspaceartifactstore")
    assert cloud.blobs.names(container, "photos/") == ["photos/x/a.txt", "photos/x/b/ü c.txt"]
    assert storage.download(found, tmp_path / "g").transferred.files == 2
    assert contents(tmp_path / "g") == contents(folder)


def test_a_missing_datastore_is_named(place: Workspace) -> None:
    with pytest.raises(AzureError, match=r"datastore 'nowhere' was not found.*404.*\n  -> check the name"):
        storage.locate("datastore:nowhere/x", place.settings)


def _datastore(cloud: EmulatedCloud, name: str, **changes: object) -> str:
    from azureml_emulator.resources.workspace_routes import datastore

    content = datastore(cloud.container("workspaceblobstore"), False, cloud.addresses.storage_suffix)
    content["properties"] |= changes
    cloud.store.put(f"{cloud.path()}/datastores/{name}", content)
    return f"datastore:{name}/x"


@pytest.mark.parametrize("kind", ["None", "Sas that we may not see"])
def test_a_datastore_without_a_secret_is_opened_with_our_own_identity(
    place: Workspace, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from azure.ai.ml.constants import _common

    cloud = place.loopback
    form = _datastore(cloud, "secretless", credentials={"credentialsType": kind.split()[0]})
    if kind != "None":
        cloud.faults.fail("listSecrets", 403, code="AuthorizationFailed", retry_after=None)
    with pytest.raises(AzureError, match=r"has no secret that you may read, and http://.* is not encrypted"):
        storage.locate(form, place.settings)
    if kind != "None":
        cloud.faults.fail("listSecrets", 403, code="AuthorizationFailed", retry_after=None)
    container = cloud.container("workspaceblobstore")
    with proxied(azurite, tls=tmp_path / "tls", bearer=lambda: cloud.blobs.signature(container, write=True)) as proxy:
        monkeypatch.setitem(_common.STORAGE_ACCOUNT_URLS, "AzureBlob", proxy.account_url)
        found = storage.locate(form, place.settings)
        assert (found.sign_in.kind, found.datastore) == ("identity", "secretless")
        # Found and signed in at the control plane; storage has an authority of its own.
        both = Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text() + (tmp_path / "tls/authority.pem").read_text()
        (tmp_path / "both.pem").write_text(both)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "both.pem"))
        assert storage.upload(write(tmp_path / "f", {"a": b"1"}), found).transferred.files == 1
    assert cloud.blobs.read(container, "x/a") == b"1"


def test_datastores_that_are_no_containers(place: Workspace) -> None:
    form = _datastore(place.loopback, "share", datastoreType="AzureFile", fileShareName="share")
    with pytest.raises(AzureError, match=r"datastore 'share' is of type AzureFile\n  -> name one of type AzureBlob"):
        storage.locate(form, place.settings)


def test_a_data_lake_datastore_is_a_container(place: Workspace) -> None:
    cloud = place.loopback
    name = cloud.container("workspaceblobstore")
    form = _datastore(cloud, "lake", datastoreType="AzureDataLakeGen2", filesystem=name)
    assert storage.locate(form, place.settings).container == name


def test_delete_in_the_root_of_a_datastore_is_refused(place: Workspace, tmp_path: Path) -> None:
    found = storage.locate("datastore:workspaceblobstore", place.settings)
    with pytest.raises(DataError, match="would remove files of the workspace"):
        storage.upload(write(tmp_path / "f", {"a": b"1"}), found, delete_all=True)
