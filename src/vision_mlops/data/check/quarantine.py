"""Moves files out of a dataset and back: nothing is deleted or overwritten, and a journal records all moves.

The journal ``moves.json`` is written before each batch of moves. If a move is interrupted, it says where a file may be,
and undoing looks in both places.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write
from vision_mlops.data.check.dataset_findings import FIXABLE, KINDS, DatasetFinding
from vision_mlops.data.check.file_listing import ImageListing, printable

JOURNAL = "moves.json"
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Move:
    """One file: ``source`` below the dataset, ``target`` below the quarantine, and why it moves."""

    source: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Undone:
    """What undoing did: files that are back, and what is said about those that are not."""

    restored: list[str]
    problems: list[str] = field(default_factory=list)


def parse_kinds(text: str) -> list[str]:
    """Parse the kinds of ``--fix``, separated by commas.

    Raises:
        DataError: a kind is unknown, or cannot be fixed by moving files.
    """
    kinds = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for kind in kinds:
        if kind not in FIXABLE:
            reason = (
                f"cannot be fixed by moving files: {KINDS[kind].remedy}"
                if kind in KINDS
                else "is not a kind of finding"
            )
            raise DataError(f"--fix {kind}: {kind!r} {reason}", f"choose one or more of {', '.join(FIXABLE)}")
    if not kinds:
        raise DataError("--fix names no kind of finding", f"choose one or more of {', '.join(FIXABLE)}")
    return kinds


def check_target(listing: ImageListing, quarantine: Path) -> Path:
    """Refuse what must not be moved from or to; return the absolute quarantine folder.

    Raises:
        DataError: the folder is prepared, the quarantine overlaps it, or belongs to other images.
    """
    root, target = listing.root, quarantine.expanduser().resolve()
    if listing.prepared:
        raise DataError(
            f"{root} is prepared data: its manifest lists the files",
            "fix the source and run `mlops data prepare` again",
        )
    if target == root or root in target.parents or target in root.parents:
        raise DataError(f"{target} overlaps the images in {root}", "choose a --to outside of it")
    if (target / JOURNAL).exists():
        if (other := _read(target)["folder"]) != str(root):
            raise DataError(f"{target} contains files of {printable(other)}", "choose another --to")
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is not empty and is not a quarantine folder", "choose another --to")
    return target


def plan(listing: ImageListing, findings: Iterable[DatasetFinding], kinds: list[str], quarantine: Path) -> list[Move]:
    """Plan what moves where: each file once, for the first kind that names it, under a name that is free."""
    moves: list[Move] = []
    seen: set[int] = set()
    found = list(findings)
    for kind in kinds:
        for finding in (item for item in found if item.kind == kind):
            for file in finding.moved:
                if file.index < 0 or file.index in seen:
                    continue
                seen.add(file.index)
                source = file.place.relative_to(listing.root)
                target = _free(quarantine, Path(kind, source))
                moves.append(Move(str(source), str(target), finding.message))
    return moves


def _free(quarantine: Path, wanted: Path) -> Path:
    """Return a free path below the quarantine: an earlier round may have moved a file of the same name."""
    target, number = wanted, 1
    while os.path.lexists(quarantine / target):
        number += 1
        target = wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}")
    return target


def move(root: Path, quarantine: Path, moves: list[Move]) -> int:
    """Move the files and return how many. A file that has disappeared in the meantime is skipped."""
    done = 0
    for start in range(0, len(moves), _BATCH):
        batch = moves[start : start + _BATCH]
        known = _read(quarantine)["moves"] if (quarantine / JOURNAL).exists() else []
        _write(quarantine, root, [*known, *({"from": m.source, "to": m.target, "why": m.why} for m in batch)])
        for item in batch:
            with contextlib.suppress(FileNotFoundError):
                move_file(root / item.source, quarantine / item.target)
                done += 1
    return done


def move_file(source: Path, target: Path) -> None:
    """Move a file without ever overwriting one: by a hard link, or by a copy if the file system has no links.

    Raises:
        FileExistsError: ``target`` exists.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another file system, or one without hard links
        if os.path.lexists(target):
            raise FileExistsError(17, "exists already", str(target)) from None
        temporary = target.with_name(f".{target.name}.part")
        shutil.copy2(source, temporary, follow_symlinks=False)
        temporary.rename(target)
    source.unlink()


def undo(quarantine: Path) -> Undone:
    """Move everything back to where the journal says it was. This is safe to repeat, also after an interruption.

    Raises:
        DataError: there is no journal, or it cannot be read.
    """
    target = quarantine.expanduser().resolve()
    journal = _read(target)
    root = Path(journal["folder"])
    restored: list[str] = []
    problems: list[str] = []
    left: list[dict[str, str]] = []
    for entry in reversed(journal["moves"]):
        origin, place = root / entry["from"], target / entry["to"]
        name = printable(entry["from"])
        if not os.path.lexists(place):
            if not os.path.lexists(origin):
                problems.append(f"{name}: is no longer in either folder")
            continue  # it never left, or is back
        if os.path.lexists(origin) and _same(origin, place):
            place.unlink()  # the move was cut off between the two names
            restored.append(name)
            continue
        try:
            move_file(place, origin)
            restored.append(name)
        except FileExistsError:
            problems.append(f"{name}: another file is in its place now; the moved one stays in {printable(str(place))}")
            left.append(entry)
    if left:
        _write(target, root, left[::-1])
    else:
        (target / JOURNAL).unlink()
    _drop_empty(target)
    return Undone(restored, problems)


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # a link that points nowhere
        return not one.is_symlink() and one.samefile(other)
    return False


def _read(quarantine: Path) -> dict[str, Any]:
    path = quarantine / JOURNAL
    if not path.is_file():
        problem = f"has no {JOURNAL}" if quarantine.exists() else "does not exist"
        raise DataError(f"{quarantine} {problem}", "give the folder that --fix moved files to")
    try:
        journal = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(journal["folder"], str) or not all({"from", "to"} <= set(item) for item in journal["moves"]):
            raise ValueError("folder or moves are not as written")
        for item in journal["moves"]:
            if any(Path(item[key]).is_absolute() or ".." in Path(item[key]).parts for key in ("from", "to")):
                raise ValueError(f"{item['from']!r} points outside")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a journal of moves ({error})", "move the files back by hand") from error
    return dict(journal)


def _write(quarantine: Path, root: Path, moves: list[dict[str, str]]) -> None:
    # ASCII only: bytes of a name that are not UTF-8 survive as escapes.
    text = json.dumps({"folder": str(root), "moves": moves}, indent=1, ensure_ascii=True)
    atomic_write(quarantine / JOURNAL, text + "\n")


def _drop_empty(folder: Path) -> None:
    """Remove empty folders, the deepest first."""
    for parent, _, _ in sorted(os.walk(folder), key=lambda item: -len(Path(item[0]).parts)):
        with contextlib.suppress(OSError):
            Path(parent).rmdir()
