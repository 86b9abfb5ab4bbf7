"""Which files of a folder are images, and what becomes of all others: the one rule of all commands that read folders.

The content decides, not the suffix alone: a JPEG without a suffix is an image. What is left out is named with its reason,
except for what is not meant to be an image: traces of file browsers, hidden files, and texts such as a README.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vision_mlops.core.errors import ImageError
from vision_mlops.core.files import is_clutter
from vision_mlops.core.folder_walk import Entry, EntryKind, walk
from vision_mlops.core.text import counted
from vision_mlops.images.decoding import IMAGE_SUFFIXES, read_size

IGNORED = "ignored"
"""Reason of files that are no images and do not claim to be any."""
HIDDEN = "hidden"
UNREADABLE = "unreadable"
"""Reason of folders and files that may not be read, and of links to nothing."""
_CLAIMS = IMAGE_SUFFIXES | {
    ".jfif", ".jpe", ".jif", ".apng", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpf", ".ico", ".icns",
    ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".dds", ".exr", ".hdr", ".psd", ".svg", ".eps", ".dcm", ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2",
}  # fmt: skip
_TEXTS = (
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "changelog",
    "changes",
    "authors",
    "citation",
    "contributing",
)
_TEXT_SUFFIXES = ("", ".txt", ".md", ".rst", ".html", ".pdf", ".cff", ".bib")
_TOOLS = frozenset({".git", ".svn", ".hg", ".dvc", ".venv", ".cache", ".idea", ".vscode", ".thumbnails", "__pycache__"})
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry of a folder that is not used.

    Attributes:
        name: Path below the folder.
        reason: A short code: ``ignored``, ``hidden``, ``unreadable``, ``loop`` or ``special``.
        problem: The same in words that go on after the name.
    """

    name: str
    reason: str
    problem: str

    @property
    def message(self) -> str:
        """What is wrong, naming the entry."""
        return f"{on_one_line(self.name)}: {self.problem}"


def image_entries(folder: str | os.PathLike[str]) -> Iterator[Entry | LeftOut]:
    """Yield the image files and folders below a folder, and everything else that somebody put there.

    Yields:
        Entries of the kind ``file`` for what is an image, or claims to be one by its suffix; entries of the kind ``folder``;
        and what is left out, hidden folders with images last. An unreadable folder is left out under its name, which is
        empty for the folder itself.
    """
    hidden: Counter[str] = Counter()
    for entry in walk(folder, is_passed_over):
        if (inside := hidden_folder(entry.name)) is not None:
            if entry.kind is EntryKind.FILE and is_image_file(entry.name, entry.path):
                hidden[inside] += 1
        elif is_hidden(entry.name):
            if entry.name.endswith(".icloud"):
                yield LeftOut(entry.name, UNREADABLE, "is stored in iCloud, not on this machine")
        elif entry.kind is EntryKind.FOLDER:
            yield entry
        elif entry.kind is not EntryKind.FILE:
            lost = entry.kind in (EntryKind.UNREADABLE, EntryKind.BROKEN_LINK)
            yield LeftOut(entry.name, UNREADABLE if lost else entry.kind.value, entry.problem)
        elif is_image_file(entry.name, entry.path):
            yield entry
        elif not is_documentation(entry.name):
            yield LeftOut(entry.name, IGNORED, "is not an image")
    yield from in_hidden_folders(hidden)


def in_hidden_folders(counts: Mapping[str, int]) -> list[LeftOut]:
    """Describe hidden folders, by their number of images."""
    return [
        LeftOut(name, HIDDEN, f"is a hidden folder with {counted(count, 'image')} in it")
        for name, count in sorted(counts.items())
    ]


def images_below(folder: str | os.PathLike[str]) -> tuple[list[Path], list[LeftOut]]:
    """List the image files below a folder, as paths that begin with it, and what is left out."""
    files: list[Path] = []
    left_out: list[LeftOut] = []
    for found in image_entries(folder):
        if isinstance(found, LeftOut):
            left_out.append(found)
        elif found.kind is EntryKind.FILE:
            files.append(Path(folder, found.name))
    return files, left_out


def is_image_file(name: str, path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an image by its suffix or content; one that cannot be read may be one."""
    return claims_to_be_image(name) or is_image_content(Path(path))


def is_image_content(content: Path | bytes) -> bool:
    """Return whether a file, or its first bytes if they are many, is an image by its content."""
    try:
        read_size(content)
    except ImageError as error:
        return error.reason not in ("not_an_image", "empty")
    return True


def claims_to_be_image(name: str) -> bool:
    """Return whether the suffix of a name is that of an image of any format, in any case."""
    return PurePosixPath(name).suffix.lower() in _CLAIMS


def is_hidden(name: str) -> bool:
    """Return whether a relative name is that of a hidden file or folder, or is in one."""
    return any(part.startswith(".") for part in name.split("/"))


def is_documentation(name: str) -> bool:
    """Return whether a file is a text about the folder, such as a README."""
    path = PurePosixPath(name.casefold())
    return path.name.partition(".")[0] in _TEXTS and path.suffix in _TEXT_SUFFIXES


def is_text(name: str) -> bool:
    """Return whether a name is text in UTF-8; file systems also keep names that are not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def on_one_line(name: str) -> str:
    r"""Return a name on one line: bytes that are not UTF-8 become ``\xNN``, and control characters escapes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def summary(left_out: Iterable[LeftOut]) -> list[str]:
    """Summarise what is left out: a line for each thing, but one for all files that are not images."""
    found = list(left_out)
    ignored = [item.name for item in found if item.reason == IGNORED]
    lines = [item.message for item in found if item.reason != IGNORED]
    return [*lines, other_files(len(ignored), ignored)] if ignored else lines


def other_files(count: int, first: Iterable[str]) -> str:
    """Say how many files are not images, with the first names."""
    names = [on_one_line(name) for name in itertools.islice(first, _SHOWN)]
    more = f", and {count - len(names)} more" if count > len(names) else ""
    return f"{counted(count, 'file')} that {'is not an image' if count == 1 else 'are not images'}: {', '.join(names)}{more}"


def is_passed_over(part: str) -> bool:
    """Return whether a file or folder of this name is the trace of a program, and not where images are kept."""
    return is_clutter(part) or part in _TOOLS or part.startswith(".Trash")


def hidden_folder(name: str) -> str | None:
    """Return the outermost hidden folder that a relative name is in."""
    folders = name.split("/")[:-1]
    return next(("/".join(folders[: place + 1]) for place, part in enumerate(folders) if part.startswith(".")), None)
