"""Where images are: ``--images``, or ``data.path`` of a workload, names a folder, registered data or an address in Azure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops.cli.data.versions import find_version
from vision_mlops.cli.options import RunLocation

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload

_PREFIX = "azureml:"
_ADDRESS = "azureml://"


def images_for(workload: Workload, images: str | Path | None, place: RunLocation) -> str | None:
    """Where the images of a workload are.

    Args:
        workload: It may name a folder or registered data itself.
        images: Folder or registered data to use instead.
        place: Where they are read.

    Returns:
        The absolute path of a folder, ``azureml:NAME:VERSION`` of registered data (the version that is the latest now, where
        none is given), another address as it is, or None where the workload brings its images.

    Raises:
        DataError: there is no such folder, or the registered data is none.
        MlopsError: there is no such registered data.
    """
    from vision_mlops.core.errors import DataError

    if images is None and workload.data.source == "download":
        from vision_mlops.data.fetch_record import fetched_folder

        return str(fetched_folder(workload))
    named = workload.data.path if workload.data.source == "folder" else ""
    text = str(images) if images is not None else named
    if not text:
        return None
    if is_registered(text):
        version = find_version(text, place)
        if version.type != "uri_folder":
            raise DataError(
                f"{version.reference} is of type {version.type}, not a folder of images", "name another one"
            )
        return version.reference
    if text.startswith(_PREFIX):
        return text
    folder = Path(text).expanduser()
    if not folder.is_dir():
        hint = "give a folder with one sub-folder of images per class, or azureml:NAME:VERSION of registered data"
        raise DataError(f"{text} is not a folder", hint)
    return str(folder.resolve())


def images_here(workload: Workload, images: str | None) -> tuple[Path | None, str]:
    """The folder that images are read from, and the reference of registered data that it is.

    Folder and reference are empty where images are the workload's own.
    """
    if not is_registered(images or workload.data.path):
        return None if images is None else Path(images), ""
    reference = images_for(workload, images, RunLocation.LOCAL)
    return (Path(find_version(reference, RunLocation.LOCAL).path), reference) if reference else (None, "")


def is_registered(images: str) -> bool:
    """Whether a text is the reference of registered data, as opposed to a folder or an address."""
    return images.startswith(_PREFIX) and not images.startswith(_ADDRESS)


def title_of(images: str) -> str:
    """What images are called: the name of their folder or data asset."""
    if is_registered(images):
        from vision_mlops.data.asset_store import split_reference

        return split_reference(images)[0]
    if images.startswith(_PREFIX):
        return images.rstrip("/").rpartition("/")[2]
    return Path(images).expanduser().resolve().name
