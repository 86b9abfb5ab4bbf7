"""Prepare images for training: check each, split without leaks, and write train/val/test folders with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from vision_mlops import __version__
from vision_mlops.config.workload import Split, Workload
from vision_mlops.core.errors import DataError, ImageError
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.text import counted, few
from vision_mlops.data.class_names import lookalikes
from vision_mlops.data.corrupted_images import SUFFIX, write_corrupted
from vision_mlops.data.image_files import IGNORED, LeftOut, on_one_line, summary
from vision_mlops.data.manifest import (
    MANIFEST,
    SPLITS,
    STATE,
    Excluded,
    ImageRecord,
    Manifest,
    SplitName,
    read_manifest,
    write_manifest,
)
from vision_mlops.data.sources import Source, SourceImage, find_source
from vision_mlops.data.splits import assign
from vision_mlops.images.decoding import open_rgb

_SHOWN = 10

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PrepareResult:
    """Prepared data; ``reused`` if nothing had changed since the last time."""

    folder: Path
    manifest: Manifest
    reused: bool
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file that can be decoded; ``name`` is its path below the source's root."""

    name: str
    image: SourceImage
    sha256: str
    width: int
    height: int

    def left_out(self, reason: str, why: str) -> Excluded:
        """Return the record of the file if it is left out after all."""
        return Excluded(path=self.name, reason=reason, message=f"{self.name}: {why}")


def prepare(
    workload: Workload,
    out: Path,
    *,
    images: Path | None = None,
    named: str = "",
    strict: bool = False,
    progress: Progress | None = None,
) -> PrepareResult:
    """Check and split a workload's images into ``out``.

    Args:
        workload: Source, split fractions and limits.
        out: Folder to write, whole or not at all; replaced if it is an older preparation.
        images: Folder of class folders to use instead of the workload's source.
        named: What the manifest calls the source; by default its folder.
        strict: Raise an error if anything would be left out with a warning.
        progress: Called with (checked, total) now and then.

    Raises:
        DataError: the source cannot be used, fewer than two classes remain, or ``strict`` finds something.
    """
    source = find_source(workload, images)
    source = replace(source, name=named) if named else source
    out = out.expanduser().absolute()
    _check_target(source.root, out)
    key = _key(source, workload, named)
    if (reused := _reuse(out, key)) is not None:
        if strict and reused.excluded:
            raise _strict_error(reused.excluded)
        return PrepareResult(out, reused, True, _warnings(reused))
    checked, excluded = _check_all(source, workload, progress)
    checked = _drop_conflicts(checked, excluded)
    checked = _drop_leaks(checked, excluded)
    checked = _drop_small_classes(checked, excluded, source, workload.data.min_images_per_class)
    if strict and excluded:
        raise _strict_error(excluded)
    classes = sorted({item.image.label for item in checked})
    if len(classes) < 2:
        raise DataError(
            f"{source.root}: {counted(len(classes), 'usable class')}; a classifier needs at least two",
            _listing(excluded) or "add a folder of images for each class",
        )
    splits = _splits(checked, workload.data.split)
    for name in SPLITS:
        missing = set(classes) - {item.image.label for item in checked if splits[item.sha256] == name}
        if missing:
            raise DataError(
                f"{source.root}: class {min(missing)!r} has no image in {name}", "add images, or change data.split"
            )
    with atomic_folder(out, overwrite=True) as folder:
        records = _write_images(folder, checked, splits, source)
        manifest = write_manifest(
            folder,
            Manifest(
                name=workload.name,
                source=source.name,
                seed=workload.data.split.seed,
                classes=classes,
                images=records,
                excluded=excluded,
            ),
        )
        (folder / STATE).write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
    return PrepareResult(out, manifest, False, _warnings(manifest))


def _check_target(root: Path, out: Path) -> None:
    target = out.resolve()
    if target == root or root in target.parents or target in root.parents:
        raise DataError(f"{out} overlaps the source {root}", "choose an --out outside of it")
    existing = next(path for path in (out, *out.parents) if path.exists())
    if not existing.is_dir():
        raise DataError(f"{existing} is a file", "choose another --out")
    ours = all((out / name).is_file() for name in (MANIFEST, STATE))
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise DataError(f"{out} is not empty and was not written by `mlops data prepare`", "choose another --out")


def _key(source: Source, workload: Workload, named: str) -> str:
    """Hash what determines the result: every file's path, size and time, and the settings."""
    digest = hashlib.sha256(
        f"{__version__}\0{source.root}\0{named}\0{workload.data.model_dump_json()}\0{workload.name}".encode()
    )
    for path in [*(image.path for image in source.images), *source.loose]:
        try:
            status = path.stat()
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(os.fsencode(path) + f"\0{state}\n".encode())
    for name in [*source.empty, *(f"{item.name}\0{item.reason}" for item in source.left_out)]:
        digest.update(os.fsencode(name) + b"\n")
    return digest.hexdigest()


def _reuse(out: Path, key: str) -> Manifest | None:
    state = out / STATE
    if not state.is_file():
        return None
    try:
        if json.loads(state.read_text(encoding="utf-8")).get("key") != key:
            return None
        manifest = read_manifest(out)
    except (ValueError, AttributeError):
        return None
    written = state.stat().st_mtime_ns  # last of all files: an image with a later time was changed by someone else
    files = [out / record.path for record in manifest.images]
    whole = all(file.is_file() and file.stat().st_mtime_ns <= written for file in files)
    return manifest if whole else None


def _check_all(source: Source, workload: Workload, progress: Progress | None) -> tuple[list[_Checked], list[Excluded]]:
    """Decode every image completely; leave out what fails, with its reason."""
    checked: list[_Checked] = []
    loose = [_relative(path, source.root) for path in source.loose]
    excluded = [Excluded(path=name, reason="no_class", message=f"{name}: is not in a class folder") for name in loose]
    excluded += [Excluded(path=_shown(item.name), reason=item.reason, message=item.message) for item in source.left_out]

    def check(image: SourceImage) -> _Checked | Excluded:
        name = _relative(image.path, source.root)
        if name != image.path.relative_to(source.root).as_posix():
            return Excluded(path=name, reason="bad_name", message=f"{name}: the name is not UTF-8")
        try:
            data = image.path.read_bytes()
            upright = open_rgb(data, name=name, max_pixels=workload.data.max_pixels)
        except OSError as error:
            return Excluded(path=name, reason="unreadable", message=f"{name}: {error.strerror or error}")
        except ImageError as error:
            return Excluded(path=name, reason=error.reason, message=error.message)
        return _Checked(name, image, hashlib.sha256(data).hexdigest(), *upright.size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, result in enumerate(pool.map(check, source.images), start=1):
            if isinstance(result, Excluded):
                excluded.append(result)
            else:
                checked.append(result)
            if progress is not None and (number % 50 == 0 or number == len(source.images)):
                progress(number, len(source.images))
    return checked, excluded


def _drop_conflicts(checked: list[_Checked], excluded: list[Excluded]) -> list[_Checked]:
    """Leave out content that is in two classes: nobody can say which label is right."""
    labels: dict[str, set[str]] = defaultdict(set)
    for item in checked:
        labels[item.sha256].add(item.image.label)
    for item in checked:
        if len(both := labels[item.sha256]) > 1:
            excluded.append(item.left_out("conflict", f"the same image is in the classes {' and '.join(sorted(both))}"))
    return [item for item in checked if len(labels[item.sha256]) == 1]


def _drop_leaks(checked: list[_Checked], excluded: list[Excluded]) -> list[_Checked]:
    """If the source is split, keep content that is in two splits in the one that judges (test, then val)."""
    rank: dict[SplitName | None, int] = {"test": 0, "val": 1, "train": 2, None: 3}
    best: dict[str, SplitName | None] = {}
    for item in checked:
        if item.sha256 not in best or rank[item.image.split] < rank[best[item.sha256]]:
            best[item.sha256] = item.image.split
    for item in checked:
        if item.image.split != best[item.sha256]:
            excluded.append(item.left_out("leak", f"the same image is in {best[item.sha256]}"))
    return [item for item in checked if item.image.split == best[item.sha256]]


def _drop_small_classes(
    checked: list[_Checked], excluded: list[Excluded], source: Source, smallest: int
) -> list[_Checked]:
    counts = Counter(label for _, label in {(item.sha256, item.image.label) for item in checked})
    small = {label for label in source.classes if counts[label] < smallest}
    for label in sorted(small):
        message = (
            f"class {_shown(label)!r} has {counted(counts[label], 'different usable image')}, fewer than {smallest}"
        )
        excluded.append(Excluded(path=_shown(label), reason="small_class", message=message))
    return [item for item in checked if item.image.label not in small]


def _splits(checked: list[_Checked], split: Split) -> dict[str, SplitName]:
    """Split by content hash. A split that the source has is kept, and what it lacks is drawn from its train."""
    given: dict[str, SplitName] = {item.sha256: item.image.split for item in checked if item.image.split is not None}
    if not given:
        return assign(((item.sha256, item.image.label) for item in checked), split)
    lacking = [name for name in ("val", "test") if name not in given.values()]
    if lacking:
        shares = {name: getattr(split, name) if name in lacking else 0.0 for name in ("val", "test")}
        drawn = split.model_copy(update={**shares, "train": 1.0 - sum(shares.values())})
        pool = ((item.sha256, item.image.label) for item in checked if item.image.split == "train")
        given |= assign(pool, drawn)
    return given


def _write_images(
    folder: Path, checked: list[_Checked], splits: dict[str, SplitName], source: Source
) -> list[ImageRecord]:
    taken: set[str] = set()
    targets: list[tuple[_Checked, str]] = []
    for item in checked:
        split = splits[item.sha256]
        path = item.image.path if source.corrupt is None else item.image.path.with_suffix(SUFFIX)
        name = path.name
        relative = f"{split}/{item.image.label}/{name}"
        if relative.casefold() in taken:
            # Equal names in nested folders: a hash of the relative path keeps them apart, wherever the source is.
            origin = hashlib.sha256(item.name.encode()).hexdigest()[:8]
            relative = f"{split}/{item.image.label}/{path.stem}-{origin}{path.suffix}"
        taken.add(relative.casefold())
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        targets.append((item, relative))

    def write(item: _Checked, relative: str) -> ImageRecord:
        target, sha256, size = folder / relative, item.sha256, (item.width, item.height)
        if source.corrupt is None:
            # A copy, not a hard link: an edit of the prepared file must not reach the user's original.
            shutil.copyfile(item.image.path, target)
        else:
            sha256, size = write_corrupted(item.image.path, target, source.corrupt, item.sha256, size)
        return ImageRecord(
            path=relative,
            split=splits[item.sha256],
            label=item.image.label,
            sha256=sha256,
            width=size[0],
            height=size[1],
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda pair: write(*pair), targets))


def _relative(path: Path, root: Path) -> str:
    """Return the path below the source's root; bytes that are not UTF-8 are shown as a replacement character."""
    return _shown(path.relative_to(root).as_posix())


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _listing(excluded: Iterable[Excluded]) -> str:
    return few(_messages(excluded), "; ", most=_SHOWN)


def _messages(excluded: Iterable[Excluded]) -> list[str]:
    """Return a line for each, but one for all files that are not images."""
    found = list(excluded)
    others = [LeftOut(item.path, item.reason, "") for item in found if item.reason == IGNORED]
    return [on_one_line(item.message) for item in found if item.reason != IGNORED] + summary(others)


def _strict_error(excluded: list[Excluded]) -> DataError:
    return DataError(
        f"{counted(len(excluded), 'problem')}: {_listing(excluded)}", "fix or remove them, or run without --strict"
    )


def _warnings(manifest: Manifest) -> list[str]:
    return [*(f"left out: {message}" for message in _messages(manifest.excluded)), *lookalikes(manifest.classes)]
