"""Copies of one picture, exact or nearly so: duplicates, leaks between splits, and conflicts between classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vision_mlops.core.errors import Severity
from vision_mlops.core.text import counted
from vision_mlops.data.check.dataset_findings import DatasetFinding
from vision_mlops.data.check.feature_rows import RowFile
from vision_mlops.data.check.file_listing import ImageListing
from vision_mlops.data.check.image_quality import BLANK_CONTRAST
from vision_mlops.data.check.image_scan import Scan
from vision_mlops.images.perceptual_hash import CORRELATION, HASH_DISTANCE, centred, same_picture

_BLOCK = 512
_COLUMNS = 2048
# Of copies, the one in the split that judges is kept: test, then val, then train, as preparing does.
_RANK = {"test": 0, "val": 1, "train": 2, "": 3}

Groups = list[list[int]]


def exact_groups(scan: Scan) -> Groups:
    """Group files with equal content, as indices; files without a copy are left out. Empty files are not copies."""
    by_hash: dict[bytes, list[int]] = defaultdict(list)
    for index, look in enumerate(scan.looks):
        if look.sha256 and look.reason != "empty":
            by_hash[look.sha256].append(index)
    return [indices for indices in by_hash.values() if len(indices) > 1]


def near_groups(scan: Scan) -> Groups:
    """Group pictures that look the same in files of different content, as indices of all their files.

    Each picture that is in no group yet takes in those after it which are copies of it. So a group has one picture that all
    others resemble; a chain of small steps does not grow into one group, and a thousand equal pictures cost one comparison
    each. Blank images are left out: they all look the same.
    """
    copies: dict[bytes, list[int]] = defaultdict(list)
    for index in map(int, scan.usable):
        if scan.looks[index].contrast >= BLANK_CONTRAST:
            copies[scan.looks[index].sha256].append(index)
    first = np.array([indices[0] for indices in copies.values()], np.int64)
    groups: dict[int, list[int]] = {}
    taken = np.zeros(len(first), np.bool_)
    for leader, others in _matches(scan, first, taken):
        taken[others] = True
        groups[leader] = [int(first[place]) for place in (leader, *others)]
    return [sorted(i for index in group for i in copies[scan.looks[index].sha256]) for group in groups.values()]


def copies_of(scan: Scan, index: int, others: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Find pictures that look the same as one, whichever of the two is the copy; none if it is blank.

    Every pair is compared, whereas :func:`near_groups` compares with the first picture of a group only.

    Args:
        scan: Scan of all of them.
        index: Index of the picture.
        others: Indices, in ascending order, of pictures that could be decoded.
    """
    look = scan.looks[index]
    if look.contrast < BLANK_CONTRAST:
        return np.empty(0, np.int64)
    hashes = np.array([scan.looks[other].phash for other in others], np.uint64)
    candidates = others[np.bitwise_count(hashes ^ np.uint64(look.phash)) <= HASH_DISTANCE]
    own = centred(scan.signatures.pick(np.array([index])))[0]
    found = [np.empty(0, np.int64)]
    for chunk in np.split(candidates, range(_COLUMNS, len(candidates), _COLUMNS)):
        theirs = centred(scan.signatures.pick(chunk))
        same = same_picture(own, theirs)
        scale = np.maximum(np.linalg.norm(own) * np.linalg.norm(theirs, axis=1), 1e-6)
        for place in np.flatnonzero(~same & (theirs @ own >= (CORRELATION - 1e-4) * scale)):
            same[place] = same_picture(theirs[place], own[None])[0]
        found.append(chunk[same])
    return np.concatenate(found)


def _matches(
    scan: Scan, indices: npt.NDArray[np.int64], taken: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield, in order, the place of a picture and later places that are copies of it. The caller marks them as taken."""
    hashes = np.array([scan.looks[index].phash for index in indices], np.uint64)
    for start in range(0, len(indices), _BLOCK):
        leaders = np.arange(start, min(start + _BLOCK, len(indices)))
        leaders = leaders[~taken[leaders]]
        places = np.arange(start, len(indices))
        near = np.empty((len(leaders), len(places)), np.bool_)
        for column in range(
            0, len(places), _COLUMNS
        ):  # a part at a time: the hashes take 8 times what their verdict does
            others = hashes[None, start + column : start + column + _COLUMNS]
            near[:, column : column + _COLUMNS] = np.bitwise_count(hashes[leaders, None] ^ others) <= HASH_DISTANCE
        near &= (places > leaders[:, None]) & ~taken[start:]
        if not near.any():
            continue
        own = centred(scan.signatures.pick(indices[leaders]))
        _correlated(scan.signatures, indices, start, own, near)
        for row, leader in enumerate(map(int, leaders)):
            if taken[leader]:  # by a picture of this block
                continue
            candidates = places[near[row] & ~taken[start:]]
            found = [
                chunk[same_picture(own[row], centred(scan.signatures.pick(indices[chunk])))]
                for chunk in np.split(candidates, range(_COLUMNS, len(candidates), _COLUMNS))
            ]
            if len(copies := np.concatenate(found)):
                yield leader, copies


def _correlated(
    signatures: RowFile,
    indices: npt.NDArray[np.int64],
    start: int,
    own: npt.NDArray[np.float32],
    near: npt.NDArray[np.bool_],
) -> None:
    """Remove candidates whose signatures do not correlate from ``near`` (leaders, places from ``start`` on).

    One matrix product for a block of pictures: of a set that is alike throughout, most pairs are candidates.
    """
    lengths = np.linalg.norm(own, axis=1)[:, None]
    wanted = np.flatnonzero(near.any(0))
    for chunk in np.split(wanted, range(_COLUMNS, len(wanted), _COLUMNS)):
        theirs = centred(signatures.pick(indices[start + chunk]))
        scale = np.maximum(lengths * np.linalg.norm(theirs, axis=1)[None], 1e-6)
        near[:, chunk] &= own @ theirs.T >= (CORRELATION - 1e-4) * scale


def find(listing: ImageListing, scan: Scan, exact: Groups, near: Groups) -> Iterator[DatasetFinding]:
    """Report all groups: a conflict or a leak if there is one, and a duplicate if copies share a split."""
    for group in exact:
        yield from _findings_of_group(listing, scan, group, exact=True)
    for group in near:
        yield from _findings_of_group(listing, scan, group, exact=False)


def _findings_of_group(listing: ImageListing, scan: Scan, group: list[int], *, exact: bool) -> Iterator[DatasetFinding]:
    entries, looks = listing.entries, scan.looks
    order = sorted(group, key=lambda i: (_RANK[entries[i].split], -looks[i].width * looks[i].height, entries[i].path))
    files = tuple(entries[i] for i in order)
    labels = sorted({file.label for file in files})
    splits = [name for name in ("train", "val", "test") if any(file.split == name for file in files)]
    details = {"match": "exact" if exact else "near", "copies": len(files)}
    alike = "the same file" if exact else "nearly the same picture"
    milder = None if exact else Severity.WARNING  # a person may see a difference that the hash does not
    first = files[0].path
    more = f" and {len(files) - 1} more" if len(files) > 2 else f" and {files[1].path}"
    if len(labels) > 1 and (exact or _across(scan, order, [file.label for file in files])):
        message = f"{first}{more}: {alike} under {_listed(labels)}"
        yield DatasetFinding("conflict", message, files, milder, None, details)
    if len(splits) > 1 and (exact or _across(scan, order, [file.split for file in files])):
        message = f"{first}{more}: {alike} in {_listed(splits)}"
        surplus = tuple(place for place, file in enumerate(files) if file.split != files[0].split)
        yield DatasetFinding("leak", message, files, milder, surplus, details)
    if len(labels) == 1:
        yield from _duplicates(scan, order, files, exact=exact, details=details)


def _duplicates(
    scan: Scan, order: list[int], files: tuple[Any, ...], *, exact: bool, details: dict[str, Any]
) -> Iterator[DatasetFinding]:
    """Report copies within one split; those across splits are leaks already."""
    for split in dict.fromkeys(file.split for file in files):
        places = [place for place, file in enumerate(files) if file.split == split]
        contents = {scan.looks[order[place]].sha256 for place in places}
        if len(places) < 2 or (not exact and len(contents) < 2):
            continue
        same = tuple(files[place] for place in places)
        if exact:
            surplus = tuple(range(1, len(same)))
            text = f"{same[0].path} has {counted(len(surplus), 'exact copy')}"
        else:  # exact copies of the kept one are the other kind's to move
            kept = scan.looks[order[places[0]]].sha256
            surplus = tuple(n for n, place in enumerate(places) if scan.looks[order[place]].sha256 != kept)
            text = f"{same[0].path} looks the same as {counted(len(surplus), 'other')}"
        kind = "exact-duplicate" if exact else "near-duplicate"
        yield DatasetFinding(kind, text, same, None, surplus, {**details, "copies": len(same)})


def _across(scan: Scan, order: list[int], sides: list[str]) -> bool:
    """Return whether different contents are on different sides; if only equal ones are, that is reported as exact."""
    of: dict[bytes, set[str]] = defaultdict(set)
    for index, side in zip(order, sides, strict=True):
        of[scan.looks[index].sha256].add(side)
    return len(of) > 1 and len({frozenset(found) for found in of.values()}) > 1


def _listed(words: list[str]) -> str:
    quoted = [f"{word!r}" for word in words[:6]]
    more = f" and {len(words) - 6} more" if len(words) > 6 else ""
    return ", ".join(quoted[:-1]) + f" and {quoted[-1]}" if not more else ", ".join(quoted) + more
