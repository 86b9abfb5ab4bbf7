"""A handful of images of each class, small: enough to see that a workload trains, and few enough to keep with its tests."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL.Image import Image, Resampling

from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import DataError, ImageError
from vision_mlops.data.sources import find_source
from vision_mlops.images.decoding import open_rgb

_EDGE = 160
_OF_A_CLASS = (4, 8)
_TOGETHER = 160


def take_handful(workload: Workload, target: Path, images: Path | None = None) -> Path:
    """Copy the first images of each class that can be decoded, scaled to at most 160 pixels, as JPEG.

    Args:
        workload: Whose images they are.
        target: Folder to write them to, one folder a class. Of each there are eight, or four where there are many classes.
        images: Folder of class folders to take them from, instead of the source that the workload names.

    Returns:
        ``target``.

    Raises:
        DataError: the images are not there, or a class has none that can be decoded.
    """
    source = find_source(workload, images)
    by_class: dict[str, list[Path]] = defaultdict(list)
    for image in source.images:
        by_class[image.label].append(image.path)
    least, most = _OF_A_CLASS
    wanted = min(most, max(least, _TOGETHER // len(by_class)))
    for label, files in by_class.items():
        if not _copy(files, target / label, wanted, workload.data.max_pixels):
            raise DataError(f"{source.root}: no image of class {label!r} can be decoded", "`mlops data check` says why")
    return target


def write_small(image: Image, file: Path) -> None:
    """Write an image as JPEG with no edge above 160 pixels."""
    image.thumbnail((_EDGE, _EDGE), Resampling.LANCZOS)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=90)


def _copy(files: list[Path], folder: Path, wanted: int, max_pixels: int) -> int:
    """Copy up to that many of the files; returns how many there were."""
    written = 0
    for file in files:
        try:
            image = open_rgb(file, max_pixels=max_pixels)
        except ImageError:  # preparing the data names it
            continue
        written += 1
        write_small(image, folder / f"{written}.jpg")
        if written == wanted:
            break
    return written
