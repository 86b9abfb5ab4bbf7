"""Images that lie in the folder of the emulator's state, and what jobs and web apps are told of the way to its services."""

from __future__ import annotations

from pathlib import Path

import pytest

from azureml_emulator.container_groups.registry_images import RegistryImage, RegistryImages

NAME = "registry.azurecr.io/team/mlops-birds:3-0123456789ab"


def test_an_image_is_a_folder_or_what_a_program_names(tmp_path: Path) -> None:
    images = RegistryImages(tmp_path / "images")
    assert NAME not in images
    place = tmp_path / "images" / "registry.azurecr.io" / "team" / "mlops-birds" / "3-0123456789ab"
    place.mkdir(parents=True)
    assert images[NAME] == RegistryImage(bundle=place)
    images[NAME] = RegistryImage(command=("true",))
    assert images[NAME].bundle is None
    assert list(images) == [NAME]
    del images[NAME]
    assert images[NAME].bundle == place


@pytest.mark.parametrize("name", ["plain", "plain:1", "registry/../../x:1", "registry/x:../1", "/x:1", "registry/x"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    images = RegistryImages(tmp_path / "deep" / "images")
    assert images.place(name) is None
    assert images.get(name) is None
