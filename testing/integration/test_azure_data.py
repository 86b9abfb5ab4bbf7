"""Data assets of a workspace: the same content is one version, whoever registers it, and however often."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from testing.support.azure_project import write_project
from testing.support.places import LIVE, Place
from testing.support.prepared_data import make_prepared
from testing.support.proxy import Proxy

from azureml_emulator.rest.faults import Faults
from vision_mlops.core.errors import AzureError, DataError, PipelineError
from vision_mlops.data.asset_store import Asset
from vision_mlops.data.folder_contents import describe
from vision_mlops.data.manifest import read_manifest, write_manifest
from vision_mlops.jobs.azureml import azure_jobs, data_assets
from vision_mlops.jobs.azureml.data_assets import find_or_create, versions

Run = Callable[..., tuple[int, str, str]]
ON = ("--on", "azure")


@pytest.fixture
def name() -> str:
    """Name of an asset that no other run has used: what live tests make they leave there."""
    return f"birds-{secrets.token_hex(4)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my birds"
    for file in ("robin/1.jpg", "robin/2.jpg", "wren/ü 1.jpg"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())
    (root / ".DS_Store").write_bytes(b"noise")
    return root


@pytest.fixture
def storage_proxy(place: Place, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """What is uploaded goes by way of a proxy that makes trouble on demand."""
    from azure.ai.ml.constants import _common

    _ = place.loopback
    monkeypatch.setitem(_common.STORAGE_ACCOUNT_URLS, "AzureBlob", proxy.account_url)
    return proxy


def answer(done: tuple[int, str, str]) -> Any:
    code, out, err = done
    assert code == 0, err
    return json.loads(out)


def create(place: Place, folder: Path, name: str, **options: Any) -> tuple[Asset, bool]:
    return find_or_create(place.client, place.settings, describe(folder), name, **options)


def stored(place: Place, version: Asset) -> dict[str, bytes]:
    """Files of a version in the loopback cloud's storage."""
    cloud = place.loopback
    store, path = version.path.split("/datastores/")[1].split("/paths/")
    container, prefix = cloud.container(store), path.rstrip("/") + "/"
    return {
        item.removeprefix(prefix): cloud.blobs.read(container, item) for item in cloud.blobs.names(container, prefix)
    }


@pytest.mark.slow
def test_register_show_list(run: Run, folder: Path, name: str) -> None:
    words = ("data", "register", str(folder), "--name", name, *ON)
    code, out, err = run(*words, "--tag", "season=spring", "--description", "Garden")
    assert (code, out) == (0, f"registered: azureml:{name}:1\n"), err
    assert run(*words)[:2] == (0, f"unchanged: azureml:{name}:1\n")
    shown = answer(run("data", "show", f"azureml:{name}@latest", *ON, "--json"))
    assert (shown["reference"], shown["type"], shown["source"]) == (f"azureml:{name}:1", "uri_folder", "my birds")
    assert (shown["tags"], shown["description"]) == ({"season": "spring"}, "Garden")
    assert (shown["images"], shown["files"], shown["counts"]) == (3, 3, {"all": {"robin": 2, "wren": 1}})
    assert shown["path"].startswith("azureml://")
    assert shown["created"].startswith("20")
    # On this machine the same content has the same fingerprint.
    here = answer(run("data", "register", str(folder), "--name", name, "--json"))
    assert here["fingerprint"] == shown["fingerprint"]
    (folder / "robin" / "1.jpg").write_bytes(b"other")
    assert answer(run(*words, "--json"))["version"] == "2"
    assert [row["version"] for row in answer(run("data", "list", "--name", name, *ON, "--json"))] == ["1", "2"]
    assert f"azureml:{name}:2" in run("data", "list", *ON)[1]
    assert run("data", "show", name, *ON)[1].startswith(f"reference:   azureml:{name}:2\n")


def test_what_is_uploaded(place: Place, folder: Path, name: str) -> None:
    version, new = create(place, folder, name)
    assert new
    assert stored(place, version) == {file: file.encode() for file in ("robin/1.jpg", "robin/2.jpg", "wren/ü 1.jpg")}


def test_prepared_data_names_no_path_of_this_machine(place: Place, tmp_path: Path, name: str) -> None:
    prepared = tmp_path / "prepared"
    manifest = make_prepared(prepared, train=1, val=1, test=1, size=16)
    write_manifest(prepared, manifest.model_copy(update={"source": str(tmp_path / "photos")}))
    version, _ = create(place, prepared, name)
    assert (version.fingerprint, version.properties["source"]) == (manifest.fingerprint, "photos")
    assert version.counts == manifest.counts()
    assert str(tmp_path) not in json.dumps(version.to_dict())
    if place.cloud is not None:
        files = stored(place, version)
        assert not [file for file, content in files.items() if str(tmp_path).encode() in content]
        down = tmp_path / "down"
        for file, content in files.items():
            (down / file).parent.mkdir(parents=True, exist_ok=True)
            (down / file).write_bytes(content)
        assert read_manifest(down).source == "photos"
        assert describe(down).fingerprint == manifest.fingerprint


def test_numbers_go_on_after_archived_and_named_versions(place: Place, run: Run, folder: Path, name: str) -> None:
    from azure.ai.ml.entities import Data

    create(place, folder, name)
    elsewhere = f"azureml://datastores/{place.settings.datastore}/paths/elsewhere"
    for version in ("spring", "7"):
        place.client.data.create_or_update(Data(name=name, version=version, path=elsewhere, type="uri_folder"))
    for version in ("1", "7"):
        place.client.data.archive(name, version=version)
    assert [item.version for item in versions(place.client, name)] == ["spring"]
    assert [item.version for item in versions(place.client, name, archived=True)] == ["1", "7", "spring"]
    # Archived content is there still, and an archived number is taken.
    code, out, err = run("data", "register", str(folder), "--name", name, *ON)
    assert (code, out) == (0, f"unchanged: azureml:{name}:1\n")
    assert "note: it is archived" in err
    (folder / "robin" / "1.jpg").unlink()
    assert create(place, folder, name)[0].version == "8"
    assert data_assets.find(place.client, f"{name}:1").version == "1"
    assert data_assets.find(place.client, f"{name}@latest").version == "8"
    place.client.data.archive(name)
    with pytest.raises(AzureError, match=f"all versions of data asset '{name}' are archived"):
        data_assets.find(place.client, name)


@pytest.mark.slow
def test_more_versions_than_a_page(place: Place, folder: Path, name: str) -> None:
    from azure.ai.ml.entities import Data

    first, _ = create(place, folder, name)
    for number in range(2, 104 if LIVE else 13):
        elsewhere = f"azureml://datastores/{place.settings.datastore}/paths/{number}"
        place.client.data.create_or_update(Data(name=name, version=str(number), path=elsewhere, type="uri_folder"))
    if place.cloud is not None:
        place.cloud.page_size = 5
    assert create(place, folder, name) == (first, False)
    (folder / "robin" / "1.jpg").unlink()
    assert create(place, folder, name)[0].version == ("104" if LIVE else "13")


def test_the_same_at_the_same_moment_is_one_version(place: Place, folder: Path, name: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create(place, folder, name)[0].version, range(4)))
    assert made == ["1"] * 4
    assert [item.version for item in versions(place.client, name)] == ["1"]


@pytest.mark.parametrize("same", [True, False])
def test_a_number_that_somebody_takes_meanwhile(
    place: Place, folder: Path, tmp_path: Path, name: str, same: bool
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jpg").write_bytes(b"x")
    said: list[str] = []

    def meanwhile(text: str) -> None:
        if text.startswith("uploading"):
            said.append(text)
            if len(said) == 1:
                create(place, folder if same else other, name)

    version, new = create(place, folder, name, say=meanwhile)
    assert (version.version, new) == (("1", True) if same else ("2", True))
    assert version.fingerprint == describe(folder).fingerprint
    assert len(versions(place.client, name)) == (1 if same else 2)


@pytest.mark.slow
def test_throttling_faults_and_lost_connections(place: Place, folder: Path, name: str, faults: Faults) -> None:
    faults.throttle("versions", times=2, method="GET")
    faults.drop("versions", method="GET")
    faults.throttle("datastores")
    faults.fail(name, status=503, method="PUT")
    faults.drop(name, method="PUT")
    assert create(place, folder, name)[0].version == "1"
    assert faults.pending == 0


def test_broken_off_before_the_version_is_made(place: Place, folder: Path, name: str, faults: Faults) -> None:
    faults.fail(name, status=400, code="UserError", method="PUT", retry_after=None)
    with pytest.raises(AzureError, match=rf"data {name}:1: .*HTTP 400"):
        create(place, folder, name)
    assert versions(place.client, name) == []
    version, new = create(place, folder, name)
    assert (version.version, new) == ("1", True)
    assert len(stored(place, version)) == 3


def many(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}.txt").write_text(f"number {number}")
    return folder


@pytest.mark.slow
def test_interrupted_in_the_middle_of_the_upload(
    place: Place, run: Run, storage_proxy: Proxy, tmp_path: Path, name: str
) -> None:
    """Ctrl-C leaves no version; the same command again sends what is not there yet."""
    folder, words = many(tmp_path / "many", 200), ("data", "register", str(tmp_path / "many"), "--name", name, *ON)
    storage_proxy.trouble("answer", method="PUT", skip=20, before=lambda: os.kill(os.getpid(), signal.SIGINT))
    code, out, err = run(*words)
    assert (code, out) == (130, ""), err
    said = "interrupted: the uploaded files are kept; the same command continues where it stopped"
    assert err.splitlines()[-1] == said
    assert versions(place.client, name, archived=True) == []
    storage_proxy.calm()
    assert run(*words)[:2] == (0, f"registered: azureml:{name}:1\n")
    assert storage_proxy.count("PUT") <= 180
    assert stored(place, versions(place.client, name)[0]) == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_broken_connections_and_refusals_of_storage(
    place: Place, run: Run, storage_proxy: Proxy, folder: Path, name: str
) -> None:
    words = ("data", "register", str(folder), "--name", name, *ON)
    storage_proxy.trouble("answer", method="PUT", skip=1, status=403, code="AuthorizationPermissionMismatch", times=9)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "AuthorizationPermissionMismatch" in err
    assert "\n  -> " in err
    assert versions(place.client, name, archived=True) == []
    storage_proxy.calm()
    storage_proxy.trouble("cut request", method="PUT")
    storage_proxy.trouble("lose answer", method="PUT", skip=1)
    assert run(*words)[:2] == (0, f"registered: azureml:{name}:1\n")
    assert len(stored(place, versions(place.client, name)[0])) == 3


@pytest.mark.slow
def test_a_change_while_it_is_uploaded_makes_no_version(
    place: Place, storage_proxy: Proxy, folder: Path, name: str
) -> None:
    content, image = describe(folder), folder / "robin" / "1.jpg"
    storage_proxy.trouble("lose answer", method="PUT", before=lambda: image.write_bytes(b"other"))
    with pytest.raises(DataError, match="was changed during the upload"):
        find_or_create(place.client, place.settings, content, name)
    assert versions(place.client, name, archived=True) == []
    assert create(place, folder, name)[0].fingerprint == describe(folder).fingerprint != content.fingerprint


def test_a_name_that_storage_does_not_take(place: Place, folder: Path, name: str) -> None:
    (folder / "robin" / "ends with a dot.").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot be used for blobs"):
        create(place, folder, name)
    assert versions(place.client, name, archived=True) == []


@pytest.mark.slow
def test_jobs_and_register_give_the_same_versions(place: Place, run: Run, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    said: list[str] = []
    azure_jobs.submit(project / "pipeline.yml", (), place.settings, client=place.client, say=said.append)
    assert sum("data asset images:" in line for line in said) <= 1
    version = answer(run("data", "register", str(project / "images"), *ON, "--json"))
    assert (version["name"], version["new"]) == ("images", False)
    # A prepared folder with a file of its own goes into a job as it is.
    make_prepared(project / "images", train=1, val=1, test=1, size=16)
    azure_jobs.submit(project / "pipeline.yml", (), place.settings, client=place.client, say=said.append)
    assert "a/1.txt" in stored(place, versions(place.client, "images")[-1])


@pytest.mark.slow
def test_the_pipeline_of_a_workload_reads_a_version(place: Place, run: Run, folder: Path, name: str) -> None:
    create(place, folder, name)
    words = ("run", "--workload", "textile", *ON, "--no-wait", "--json", "--images")
    job = answer(run(*words, f"azureml:{name}@latest"))
    assert job["tags"]["workload"] == name
    sent = place.loopback.jobs.find(job["name"]).resource.properties
    inputs = sent["jobs"]["prepare"]["inputs"]
    assert inputs["images"]["uri"].endswith(f"/data/{name}/versions/1")
    assert inputs["source"]["value"] == f"azureml:{name}:1"
    uploads = place.count("/data/", "PUT")
    for reference, message in (
        (f"azureml:{name}:2", f"error: data asset '{name}' has no version '2' in the workspace\n  -> Valid here: 1"),
        ("azureml:nothing", "error: no data asset 'nothing' in the workspace"),
    ):
        code, _, err = run(*words, reference)
        assert code == 2
        assert err.startswith(message)
    assert place.count("/data/", "PUT") == uploads


def test_mistakes_are_one_line(place: Place, run: Run, folder: Path) -> None:
    _ = place.loopback
    create(place, folder, "birds")
    for words, message in (
        (["show", "bird"], "no data asset 'bird' in the workspace\n  -> did you mean 'birds'?"),
        (["show", "birds:2"], "data asset 'birds' has no version '2' in the workspace\n  -> Valid here: 1"),
        (["show", "a b"], "'a b' is not a valid name for an asset\n  -> "),
        (["list", "--name", "bird"], "no data asset 'bird' in the workspace\n  -> "),
        (["show", "birds", "--verify"], "--verify reads files on this machine\n  -> "),
    ):
        code, out, err = run("data", *words, *ON)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {message}")


def test_nothing_is_sent_of_a_name_that_cannot_be(place: Place, folder: Path) -> None:
    uploads = place.count("", "PUT") if place.cloud else 0
    for bad in ("a b", "a/b", "-a", "é", ""):
        with pytest.raises(PipelineError, match="is not a valid name for an asset"):
            create(place, folder, bad)
    assert not place.cloud or place.count("", "PUT") == uploads


def test_without_permission(place: Place, run: Run, folder: Path, name: str, faults: Faults) -> None:
    words = ("data", "register", str(folder), "--name", name, *ON)
    faults.fail(name, status=403, code="AuthorizationFailed", method="PUT", retry_after=None)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "(HTTP 403 AuthorizationFailed)\n  -> ask for a role on the workspace" in err
    faults.fail("versions", status=403, code="AuthorizationFailed", method="GET", retry_after=None)
    assert run(*words)[0] == 2
    assert versions(place.client, name) == []


def test_a_refusal_for_another_reason_is_told(place: Place, folder: Path, name: str, faults: Faults) -> None:
    faults.fail(name, status=409, code="Conflict", method="PUT", retry_after=None)
    with pytest.raises(AzureError, match=rf"data {name}:1: .*HTTP 409 Conflict"):
        create(place, folder, name)
    assert place.count(f"/{name}/versions/1", "PUT") == 1


def test_a_datastore_that_is_not_there(place: Place, folder: Path, name: str) -> None:
    settings = place.settings.model_copy(update={"datastore": "lake"})
    with pytest.raises(AzureError, match=r"datastore 'lake'.*HTTP 404") as caught:
        find_or_create(place.client, settings, describe(folder), name)
    assert "workspaceblobstore" in caught.value.hint
    assert versions(place.client, name) == []


def test_a_workspace_that_is_not_there(
    place: Place, run: Run, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZUREML_WORKSPACE_NAME", "elsewhere")
    code, _, err = run("data", "list", "--name", name, *ON)
    assert code == 2
    assert "check AZUREML_WORKSPACE_NAME" in err
