"""Published splits: files that list the images of each, as text or as a MATLAB cell array."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from vision_mlops.core.errors import DataError, require
from vision_mlops.core.text import counted, few
from vision_mlops.data.fetch.http_responses import printable
from vision_mlops.data.manifest import SplitName
from vision_mlops.images.decoding import IMAGE_SUFFIXES

MAX_BYTES = 256 * 2**20
_MATLAB = b"MATLAB"


def read_list(content: bytes, name: str, variable: str = "file_list") -> list[str]:
    """Return the paths that a list names, with slashes, in its order.

    Args:
        content: UTF-8 text with one path per line, or MATLAB 5 with a cell array of text.
        name: Name of the file in messages.
        variable: Name of the cell array.

    Raises:
        DataError: it is neither, or names nothing.
        MissingExtraError: scipy, which reads MATLAB files, is not installed.
    """
    lines = _of_matlab(content, name, variable) if content.startswith(_MATLAB) else _of_text(content, name)
    paths = [line.strip().replace("\\", "/").removeprefix("./") for line in lines]
    found = [path for path in paths if path]
    if not found:
        raise DataError(f"{name}: names no image", "check data.download.splits")
    return found


def _of_text(content: bytes, name: str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: neither UTF-8 text nor a MATLAB 5 file", "check data.download.splits") from error
    if "\0" in text:
        raise DataError(f"{name}: neither text nor a MATLAB 5 file", "check data.download.splits")
    return text.splitlines()


def _of_matlab(content: bytes, name: str, variable: str) -> list[str]:
    require("scipy")
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    hint = "it must be a MATLAB 5 file with a cell array of paths (data.download.list_variable)"
    damage = (MatReadError, ValueError, TypeError, KeyError, IndexError, OSError, NotImplementedError, zlib.error,
              struct.error)  # fmt: skip
    try:
        known = [each for each, _, _ in whosmat(io.BytesIO(content))]
        value: Any = (
            loadmat(io.BytesIO(content), variable_names=[variable]).get(variable) if variable in known else None
        )
    except damage as error:
        raise DataError(f"{name}: cannot be read: {error}", hint) from error
    if value is None:
        raise DataError(f"{name}: has no variable {variable!r}, but {printable(', '.join(known)) or 'none'}", hint)
    cells = value.ravel().tolist() if hasattr(value, "ravel") else []
    if value.dtype.kind == "U":  # rows of text instead of cells
        return [str(cell) for cell in cells]
    try:
        return [str(cell.item()) for cell in cells]
    except (AttributeError, ValueError) as error:
        raise DataError(f"{name}: {variable!r} is not a cell array of text", hint) from error


def assign_splits(lists: Mapping[SplitName, Iterable[str]], images: Iterable[str]) -> dict[str, SplitName]:
    """Give each listed image its split. A path without an image suffix stands for the image of that name.

    Args:
        lists: Paths by split.
        images: Paths of the images that there are, below the folder of the class folders.

    Returns:
        Split by path in ``images``; those in no list are missing.

    Raises:
        DataError: a list names what is not there, or two lists name the same image.
    """
    exact = set(images)
    stems: dict[str, str] = {}
    for path in sorted(exact, reverse=True):
        stems[path.removesuffix(PurePosixPath(path).suffix)] = path
    found: dict[str, SplitName] = {}
    missing: list[str] = []
    for split, paths in lists.items():
        for path in paths:
            bare = PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES
            image = path if path in exact else stems.get(path) if bare else None
            if image is None:
                missing.append(path)
            elif found.setdefault(image, split) != split:
                raise DataError(
                    f"{image} is in the lists of {found[image]} and {split}", "a test set must not be trained on"
                )
    if missing:
        names, be = printable(few(missing)), "is" if len(missing) == 1 else "are"
        raise DataError(
            f"{counted(len(missing), 'image')} of the split lists {be} not in the archives: {names}",
            "check data.download.images and data.download.splits, or download the archives again",
        )
    return found
