"""Resolves ``--images`` and ``data.path`` of a workload: a folder, registered data or an address in Azure."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mlops.cli.data.versions import find_version
from vision_mlops.cli.options import DEFAULT_WORKLOAD, RunLocation
from vision_mlops.cli.output import say, warn
from vision_mlops.core.errors import ConfigError, DataError, MlopsError

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload
    from vision_mlops.data.asset_store import Asset

_PREFIX = "azureml:"
_ADDRESS = "azureml://"


def images_for(workload: Workload, images: str | Path | None, place: RunLocation) -> str | None:
    """Return where the images of a workload are.

    Args:
        workload: It may name a folder or registered data itself.
        images: Folder or registered data to use instead.
        place: Where they are read.

    Returns:
        The absolute path of a folder, ``azureml:NAME:VERSION`` of registered data (the latest version if none is given),
        any other address unchanged, or None if the workload brings its images.

    Raises:
        DataError: the folder does not exist, or the registered data is not a folder.
        MlopsError: the registered data does not exist.
    """
    if images is None and workload.data.source == "download":
        from vision_mlops.data.fetch_record import fetched_folder

        return str(fetched_folder(workload))
    named = workload.data.path if workload.data.source == "folder" else ""
    text = str(images) if images is not None else named
    if not text:
        return None
    if is_registered(text):
        return _folder_version(text, place).reference
    if text.startswith(_PREFIX):
        return text
    if images is None and not Path(text).expanduser().is_dir():
        from vision_mlops.data.sources import missing_images

        raise missing_images(workload)
    return str(_existing_folder(text))


def _folder_version(text: str, place: RunLocation) -> Asset:
    version = find_version(text, place)
    if version.type != "uri_folder":
        raise DataError(f"{version.reference} is of type {version.type}, not a folder of images", "name another one")
    return version


def registered_folder(reference: str) -> Path:
    """Return the folder of data registered on this machine. Raises DataError if it is not registered or not a folder."""
    return _folder_version(reference, RunLocation.LOCAL).content


def _existing_folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        hint = "give a folder with one sub-folder of images per class, or azureml:NAME:VERSION of registered data"
        raise DataError(f"{text} is not a folder", hint)
    return folder.resolve()


def images_here(workload: Workload, images: str | None) -> tuple[Path | None, str]:
    """Return the folder that images are read from, and the reference of registered data that it belongs to.

    Both are empty if the images are the workload's own.
    """
    if not is_registered(images or workload.data.path):
        return None if images is None else Path(images), ""
    version = _folder_version(images or workload.data.path, RunLocation.LOCAL)
    return Path(version.path), version.reference


def workload_of(reference: str | None, images: str | Path | None, *, needed: bool = True) -> str:
    """Return the workload whose settings apply: the named one, or the one that the images belong to.

    Args:
        reference: As given by ``--workload``.
        images: As given by ``--images``; None for the workload's own, which are textile's if none is named.
        needed: Whether to refuse images that belong to no workload; otherwise textile's settings apply, with a warning.

    Raises:
        DataError: the folder does not exist.
        MlopsError: the images do not belong to exactly one workload: image size, network and floors of another one are not
            used without being asked for.
        ConfigError: no workload has these images, and a workload file cannot be read.
    """
    if reference is not None or images is None:
        return reference or DEFAULT_WORKLOAD
    found = _workloads_with(str(images))
    if len(found) == 1:
        say(f"{images} is the data of the workload {found[0]!r}: its settings apply")
        return found[0]
    if found:
        raise MlopsError(
            f"{images} is the data of {len(found)} workloads: {', '.join(found)}",
            f"choose one, for example --workload {found[0]}",
        )
    if not needed:
        if str(images).startswith(_PREFIX) or Path(images).is_dir():
            warn(f"no workload here has {images} as its data: name and settings are those of {DEFAULT_WORKLOAD}")
        return DEFAULT_WORKLOAD
    own = ""
    if not str(images).startswith(_PREFIX):
        _existing_folder(str(images))
        own = f"`mlops new {name_of(images)} --images {shlex.quote(str(images))}` writes one; or "
    raise MlopsError(
        f"no workload here has {images} as its data",
        f"{own}name the workload whose settings and floors apply, for example --workload {DEFAULT_WORKLOAD}",
    )


def _workloads_with(images: str) -> list[str]:
    """Return the names of the workloads that have these images: the same folder, or a version of the same data asset."""
    from vision_mlops.config.workload_files import find_workload, list_workloads, parse_workload

    found, unread = [], []
    for name in list_workloads():
        try:
            file = find_workload(name)
            # As written: a variable that changes data.path would change that of every workload.
            workload = parse_workload(file.read_text(encoding="utf-8"), str(file))
        except (ConfigError, UnicodeDecodeError) as error:
            unread.append(ConfigError(str(error)))
            continue
        if _is_data_of(images, workload):
            found.append(name)
    if unread and not found:
        raise unread[0]
    return found


def _is_data_of(images: str, workload: Workload) -> bool:
    from vision_mlops.data.fetch_record import download_folder

    own = workload.data.path if workload.data.source == "folder" else ""
    if is_registered(images):
        return title_of(images) == (title_of(own) if is_registered(own) else workload.name)
    if images.startswith(_PREFIX) or own.startswith(_PREFIX):
        return images.rstrip("/") == own.rstrip("/")
    if workload.data.source == "download":
        own = str(download_folder(workload))
    return bool(own) and Path(own).expanduser().resolve() == Path(images).expanduser().resolve()


def name_of(images: str | Path) -> str:
    """Return a name for the workload and model of images: that of their folder or data asset, in plain letters."""
    plain = unicodedata.normalize("NFKD", title_of(str(images))).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return (name if name[:1].isalpha() and len(name) > 1 else f"images-{name}".rstrip("-"))[:63]


def is_registered(images: str) -> bool:
    """Tell whether a text refers to registered data, as opposed to a folder or an address."""
    return images.startswith(_PREFIX) and not images.startswith(_ADDRESS)


def title_of(images: str) -> str:
    """Return the name of the folder or data asset of images."""
    if is_registered(images):
        from vision_mlops.data.asset_store import split_reference

        return split_reference(images)[0]
    if images.startswith(_PREFIX):
        return images.rstrip("/").rpartition("/")[2]
    return Path(images).expanduser().resolve().name
