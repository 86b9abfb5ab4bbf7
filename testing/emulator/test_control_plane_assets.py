"""Versioned assets in the loopback cloud, made and read with the real SDK: they are kept, found, and never change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.loopback import loopback_client

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Component, Data, Environment, Model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file in it and one in a folder below."""
    path = tmp_path / "content"
    (path / "deep").mkdir(parents=True)
    (path / "a.txt").write_text("a")
    (path / "deep" / "b.txt").write_text("b")
    return path


def _data(path: Path, version: str = "1", **more: Any) -> Data:
    from azure.ai.ml.entities import Data

    return Data(name="images", version=version, path=str(path), type="uri_folder", **more)


def _model(path: Path, version: str | None = "1", **more: Any) -> Model:
    from azure.ai.ml.entities import Model

    return Model(name="textile", version=version, path=str(path), type="custom_model", **more)


def _environment(image: str = "python:3.11", version: str | None = "1") -> Environment:
    from azure.ai.ml.entities import Environment

    return Environment(name="train", version=version, image=image)


def _files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_data_is_uploaded_and_found(client: MLClient, cloud: EmulatedCloud, folder: Path) -> None:
    made = client.data.create_or_update(_data(folder, description="pictures"))
    assert made.id is not None
    assert made.id.endswith("/data/images/versions/1")
    found = client.data.get("images", label="latest")
    assert (found.version, found.description, found.type) == ("1", "pictures", "uri_folder")
    store, path = str(found.path).split("/datastores/")[1].split("/paths/")
    names = cloud.blobs.names(cloud.container(store), path)
    assert [name.removeprefix(path).lstrip("/") for name in names] == ["a.txt", "deep/b.txt"]


def test_a_data_version_cannot_get_other_content(client: MLClient, folder: Path) -> None:
    from azure.core.exceptions import ResourceExistsError

    client.data.create_or_update(_data(folder))
    client.data.create_or_update(_data(folder, tags={"checked": "yes"}))  # tags may change
    assert client.data.get("images", "1").tags == {"checked": "yes"}
    (folder / "a.txt").write_text("other")
    with pytest.raises(ResourceExistsError, match="dataUri differs"):
        client.data.create_or_update(_data(folder))
    client.data.create_or_update(_data(folder, "2"))
    assert [item.version for item in client.data.list("images")] == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("a b", "1", "The name 'a b' is invalid"),
        ("été", "1", "The name 'été' is invalid"),
        ("-a", "1", "The name '-a' is invalid"),
        ("a" * 256, "1", "is invalid"),
        ("images", "1 2", "The version '1 2' is invalid"),
        ("images", "1" * 31, "exceeded maximum length of 30"),
    ],
)
def test_names_that_cannot_be(client: MLClient, name: str, version: str, message: str) -> None:
    from azure.ai.ml.entities import Data
    from azure.core.exceptions import HttpResponseError

    address = "azureml://datastores/workspaceblobstore/paths/images"
    with pytest.raises(HttpResponseError, match=message) as caught:
        client.data.create_or_update(Data(name=name, version=version, path=address, type="uri_folder"))
    assert caught.value.status_code == 400
    assert list(client.data.list()) == []


def test_what_is_missing_is_not_found(client: MLClient) -> None:
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import ResourceNotFoundError

    for operations in (client.data, client.models, client.environments, client.components):
        with pytest.raises(ResourceNotFoundError, match="NotFound"):
            operations.get("nothing", version="1")
        with pytest.raises(MlException, match="nothing does not exist in workspace"):
            operations.get("nothing", label="latest")


def test_the_latest_model_is_the_one_made_last(client: MLClient, folder: Path) -> None:
    for version in ("9", "10", "2"):
        client.models.create_or_update(_model(folder, version))
    assert client.models.get("textile", label="latest").version == "2"
    assert [item.version for item in client.models.list("textile")] == ["9", "10", "2"]


def test_versions_count_up_by_themselves(client: MLClient, folder: Path) -> None:
    client.models.create_or_update(_model(folder, "9"))
    assert client.models.create_or_update(_model(folder, None)).version == "10"
    assert [item.name for item in client.models.list()] == ["textile"]


def test_an_archived_model_is_out_of_sight(client: MLClient, folder: Path) -> None:
    from azure.ai.ml.constants import ListViewType

    for version in ("1", "2"):
        client.models.create_or_update(_model(folder, version, tags={"stage": "candidate"}))
    client.models.archive("textile", version="2")
    assert client.models.get("textile", label="latest").version == "1"
    assert [item.version for item in client.models.list("textile")] == ["1"]
    archived = client.models.list("textile", list_view_type=ListViewType.ARCHIVED_ONLY)
    assert [(item.version, item.tags) for item in archived] == [("2", {"stage": "candidate"})]
    client.models.restore("textile", version="2")
    assert [item.version for item in client.models.list("textile")] == ["1", "2"]
    client.models.archive("textile")
    assert list(client.models.list()) == []
    assert list(client.models.list("textile")) == []


def test_a_model_comes_back_as_it_was(client: MLClient, folder: Path, tmp_path: Path) -> None:
    client.models.create_or_update(_model(folder, properties={"git": "abc"}))
    assert client.models.get("textile", "1").properties == {"git": "abc"}
    client.models.download("textile", version="1", download_path=str(tmp_path / "down"))
    assert _files(tmp_path / "down" / "textile" / "content") == {"a.txt": "a", "deep/b.txt": "b"}


def test_a_model_version_cannot_get_other_files(client: MLClient, folder: Path) -> None:
    from azure.core.exceptions import ResourceExistsError

    client.models.create_or_update(_model(folder))
    (folder / "a.txt").write_text("other")
    with pytest.raises(ResourceExistsError, match="modelUri differs"):
        client.models.create_or_update(_model(folder))


def test_tags_of_a_model_move(client: MLClient, folder: Path) -> None:
    made = client.models.create_or_update(_model(folder))
    made.tags = {"alias": "champion"}
    client.models.create_or_update(made)
    assert client.models.get("textile", "1").tags == {"alias": "champion"}


def test_an_environment_without_version_gets_the_next_one_when_it_changes(client: MLClient) -> None:
    assert client.environments.create_or_update(_environment(version=None)).version == "1"
    assert client.environments.create_or_update(_environment(version=None)).version == "1"
    assert client.environments.create_or_update(_environment("python:3.12", version=None)).version == "2"


def test_an_environment_version_cannot_get_another_image(client: MLClient) -> None:
    from azure.core.exceptions import ResourceExistsError

    client.environments.create_or_update(_environment())
    with pytest.raises(ResourceExistsError, match="image differs"):
        client.environments.create_or_update(_environment("python:3.12"))
    assert client.environments.get("train", label="latest").image == "python:3.11"


def test_a_docker_context_is_uploaded(client: MLClient, tmp_path: Path) -> None:
    from azure.ai.ml.entities import BuildContext, Environment

    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM python:3.11\n")
    made = client.environments.create_or_update(
        Environment(name="built", version="1", build=BuildContext(path=str(tmp_path / "docker")))
    )
    assert made.build is not None
    assert client.environments.get("built", "1").build.path == made.build.path


def _component(folder: Path, command: str = "python run.py", version: str = "1") -> Component:
    from azure.ai.ml import load_component

    (folder / "run.py").write_text("print('hello')\n")
    file = folder.parent / "component.yml"
    file.write_text(
        f"type: command\nname: hello\nversion: '{version}'\ncommand: {command}\ncode: ./{folder.name}\n"
        "environment: azureml:train:1\ninputs:\n  share: {type: number, default: 0.5, min: 0, max: 1}\n"
        "outputs:\n  text: {type: uri_file}\n"
    )
    return load_component(file)


def test_a_component_is_kept_with_its_code(client: MLClient, cloud: EmulatedCloud, folder: Path) -> None:
    client.environments.create_or_update(_environment())
    made = client.components.create_or_update(_component(folder))
    assert made.id is not None
    found = client.components.get("hello", "1")
    assert float(found.inputs["share"]["default"]) == 0.5
    code = str(found.code).removeprefix("azureml:")
    container, path = cloud.blobs.split(cloud.store.get(code).properties["codeUri"])
    assert cloud.blobs.read(container, f"{path}/run.py") == b"print('hello')\n"
    assert client.components.get("hello").version == "1"  # the default version


def test_a_component_version_cannot_get_another_command(client: MLClient, folder: Path) -> None:
    from azure.core.exceptions import ResourceExistsError

    client.environments.create_or_update(_environment())
    client.components.create_or_update(_component(folder))
    client.components.create_or_update(_component(folder))  # the same again is nothing new
    with pytest.raises(ResourceExistsError, match="componentSpec differs"):
        client.components.create_or_update(_component(folder, "python other.py"))


def test_the_same_code_is_uploaded_once(client: MLClient, cloud: EmulatedCloud, folder: Path) -> None:
    client.environments.create_or_update(_environment())
    client.components.create_or_update(_component(folder))
    client.components.create_or_update(_component(folder, version="2"))
    assert len(cloud.seen("startPendingUpload")) == 1


@pytest.mark.slow
def test_a_model_is_shared_through_a_registry(cloud: EmulatedCloud, folder: Path, tmp_path: Path) -> None:
    from azure.ai.ml.exceptions import ValidationException

    cloud.add_workspace("prod")
    client, registry = loopback_client(cloud), loopback_client(cloud, registry_name=cloud.registry)
    client.models.create_or_update(_model(folder, "7", tags={"alias": "champion"}))
    share = {"share_with_name": "textile", "share_with_version": "7", "registry_name": cloud.registry}
    shared = client.models.share("textile", "7", **share)
    assert shared.id is not None
    assert "/registries/shared/models/textile/versions/7" in shared.id
    found = registry.models.get("textile", label="latest")
    assert (found.version, found.tags) == ("7", {"alias": "champion"})
    assert [item.version for item in registry.models.list("textile")] == ["7"]
    registry.models.download("textile", "7", download_path=str(tmp_path / "down"))
    assert _files(tmp_path / "down" / "textile" / "content") == {"a.txt": "a", "deep/b.txt": "b"}
    with pytest.raises(ValidationException, match="already exists in registry"):
        client.models.share("textile", "7", **share)
    assert client.models.get("textile", "7").version == "7"  # the client is the workspace's again
    assert list(loopback_client(cloud, workspace_name="prod").models.list()) == []


def test_a_model_is_put_into_a_registry_right_away(cloud: EmulatedCloud, folder: Path) -> None:
    from azure.ai.ml.constants import ListViewType

    registry = loopback_client(cloud, registry_name=cloud.registry)
    made = registry.models.create_or_update(_model(folder, "1"))
    assert made.version == "1"
    assert [item.name for item in registry.models.list()] == ["textile"]
    registry.models.archive("textile", version="1")
    assert list(registry.models.list("textile", list_view_type=ListViewType.ACTIVE_ONLY)) == []


def test_data_is_shared_through_a_registry(cloud: EmulatedCloud, folder: Path) -> None:
    client, registry = loopback_client(cloud), loopback_client(cloud, registry_name=cloud.registry)
    client.data.create_or_update(_data(folder))
    share = {"share_with_name": "images", "share_with_version": "1", "registry_name": cloud.registry}
    client.data.share("images", "1", **share)
    assert registry.data.get("images", version="1").type == "uri_folder"


def test_components_are_listed_and_archived(client: MLClient, folder: Path) -> None:
    client.environments.create_or_update(_environment())
    for version in ("1", "2"):
        client.components.create_or_update(_component(folder, version=version))
    assert [item.version for item in client.components.list("hello")] == ["1", "2"]
    client.components.archive("hello", version="2")
    assert client.components.get("hello", label="latest").version == "1"
    assert [item.name for item in client.components.list()] == ["hello"]


def test_a_missing_registry_is_named(cloud: EmulatedCloud) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="registry 'other'"):
        loopback_client(cloud, registry_name="other")
    assert loopback_client(cloud).registries.get(cloud.registry).name == cloud.registry
