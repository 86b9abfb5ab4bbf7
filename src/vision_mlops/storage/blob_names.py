"""Names that are valid for blobs, and names of blobs that are valid for files. Others are refused before the transfer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vision_mlops.core.errors import DataError
from vision_mlops.core.text import counted, few

_LONGEST_NAME = 1024
_MOST_SEGMENTS = 254
_LONGEST_SEGMENT_BYTES = 255
_SHOWN = 5
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ufffe\uffff]")


def check_for_storage(names: Iterable[str], prefix: str) -> None:
    """Refuse files whose names are not valid for blobs.

    Args:
        names: Names relative to the folder.
        prefix: What comes before them in names of blobs.

    Raises:
        DataError: some names are not valid; the message lists them.
    """
    _refuse(
        "cannot be used for blobs", [(name, wrong) for name in names if (wrong := _wrong_for_storage(name, prefix))]
    )


def check_for_folder(names: Sequence[str]) -> None:
    """Refuse blobs whose names are not valid for files below a folder, or that would be the same file.

    Raises:
        DataError: some names are not valid; the message lists them.
    """
    problems = [(name, wrong) for name in names if (wrong := _wrong_for_folder(name))]
    files: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        if folded in files:
            problems.append((name, f"differs from {files[folded]!r} only in upper and lower case"))
        files.setdefault(folded, name)
    folders = {folder for name in files for folder in _parents(name)}
    problems += [(name, "is both a file and a folder") for folded, name in files.items() if folded in folders]
    _refuse("cannot be used for files", problems)


def _wrong_for_storage(name: str, prefix: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(prefix) + len(name) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} characters with the path before it"
    segments = (prefix + name).split("/")
    if len(segments) > _MOST_SEGMENTS:
        return f"has more than {_MOST_SEGMENTS} folders"
    if wrong := _wrong_letters(name):
        return wrong
    if any(segment.endswith(".") for segment in segments):
        return "ends with a dot, or has a folder that does: storage drops it"
    return ""


def _wrong_for_folder(name: str) -> str:
    segments = name.split("/")
    if name.startswith("/"):
        return "is absolute"
    if ".." in segments or "." in segments:
        return "has a part . or .."
    if "" in segments:
        return "has an empty part"
    if wrong := _wrong_letters(name):
        return wrong
    if any(len(segment.encode("utf-8", "surrogatepass")) > _LONGEST_SEGMENT_BYTES for segment in segments):
        return f"has a part of more than {_LONGEST_SEGMENT_BYTES} bytes"
    return ""


def _wrong_letters(name: str) -> str:
    return "has a backslash" if "\\" in name else "has a control character" if _CONTROL.search(name) else ""


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _refuse(what: str, problems: list[tuple[str, str]]) -> None:
    if problems:
        shown = few([f"{ascii_safe(name)} {wrong}" for name, wrong in problems], "; ", _SHOWN)
        raise DataError(f"{counted(len(problems), 'name')} {what}: {shown}", "rename them; nothing was transferred")


def ascii_safe(name: str) -> str:
    """Return a name as it can be printed: what is not UTF-8 or would move the cursor is escaped."""
    shown = repr(name)
    return shown if len(shown) <= 203 else f"{shown[:200]}...{shown[-1]}"
