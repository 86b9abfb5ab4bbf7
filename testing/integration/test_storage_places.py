"""Where addresses lead, how one signs in there, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from testing.fakes.cloud import Cloud
from testing.places import Place as Workspace
from testing.storage import contents, write

from vision_mlops.azure import storage
from vision_mlops.exceptions import AzureError


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
    cloud: Cloud = place.loopback
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
    with pytest.raises(AzureError, match=r"datastore 'nowhere': .*404.*\n  -> check the name"):
        storage.locate("datastore:nowhere/x", place.settings)
