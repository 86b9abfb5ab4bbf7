"""Corrected images as a new version of prepared data: more images in train, while val and test stay as they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import DataError, Severity
from vision_mlops.core.files import is_clutter
from vision_mlops.core.text import counted, few, nearest
from vision_mlops.data.check import dataset_check
from vision_mlops.data.check.dataset_findings import ImageFile
from vision_mlops.data.check.duplicates import copies_of
from vision_mlops.data.check.file_listing import list_images
from vision_mlops.data.check.image_quality import BLANK_CONTRAST
from vision_mlops.data.check.image_scan import Progress, Scan, scan
from vision_mlops.data.class_names import lookalikes
from vision_mlops.data.corrected_labels import CorrectedLabel, NotAdded, NotAddedReason, not_added, settle
from vision_mlops.data.folder_contents import describe
from vision_mlops.data.manifest import SPLITS, ImageRecord, Manifest, SplitName, read_manifest, write_manifest
from vision_mlops.data.splits import assign

_JUDGING: dict[str, NotAddedReason] = {"test": "in-test", "val": "in-val"}
_LONGEST_CLASS_BYTES = 200


@dataclass(frozen=True, slots=True)
class LabelAdditions:
    """What corrections make of prepared data.

    Attributes:
        folder: The new prepared data, whose files are links; None if nothing is new.
        added: Records of its new images.
        left_out: Images that were not added, with the reason.
        warnings: What the check of a dataset says about the new images.
    """

    folder: Path | None
    added: list[ImageRecord] = field(default_factory=list)
    left_out: list[NotAdded] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Received:
    """A corrected image in a file; its size is known once it was looked at."""

    label: CorrectedLabel
    path: Path
    width: int = 0
    height: int = 0


def add_labels(
    base: Path,
    labels: Iterable[CorrectedLabel],
    scratch: Path,
    *,
    workload: Workload,
    new_classes: bool = False,
    source: str = "",
    progress: Progress | None = None,
) -> LabelAdditions:
    """Add corrected images to prepared data.

    They go to train, unless they, or nearly the same pictures, are anywhere in the data already. Images of a class that is
    new are split as the workload splits, since a class without test images could not be judged.

    Args:
        base: Prepared data; it stays as it is.
        labels: What people said.
        scratch: Empty folder for the result, on a disk with room for the images of the corrections.
        workload: Its limits and split.
        new_classes: Whether classes that the data does not have are added.
        source: What the manifest calls the source; by default that of ``base``.
        progress: Called with (images looked at, total) now and then.

    Raises:
        DataError: ``base`` is not prepared data or was changed, or a label is not one of its classes.
    """
    manifest = read_manifest(base)
    describe(base)  # refuses one that is not what its manifest says
    there = list_images(base).entries
    settled, left = settle(labels)
    _check_classes(manifest, settled, new_classes)
    received = _receive(_without_exact_copies(settled, there, left), scratch / "received", left)
    if received:
        entries = [ImageFile(item.label.name, -1, str(item.label.label), "train", item.path) for item in received]
        looking = scan([*there, *entries], scratch, max_pixels=workload.data.max_pixels, progress=progress)
        with looking as found:
            received = _without_near_copies(received, there, found, left)
    if not received:
        return LabelAdditions(None, left_out=left)
    records = _records(received, manifest, workload)
    folder = scratch / "prepared"
    for record in manifest.images:
        _link(base.resolve() / record.path, folder / record.path)
    for record, item in zip(records, received, strict=True):
        _link(item.path, folder / record.path)
    changes = {
        "source": source or manifest.source,
        "classes": sorted({*manifest.classes, *(record.label for record in records)}),
        "images": [*manifest.images, *records],
    }
    whole = write_manifest(folder, manifest.model_copy(update=changes))
    warnings = [*_checked(folder, {record.path for record in records}, scratch, workload), *lookalikes(whole.classes)]
    return LabelAdditions(folder, records, left, warnings)


def _check_classes(manifest: Manifest, labels: Sequence[CorrectedLabel], new_classes: bool) -> None:
    names = Counter(str(item.label) for item in labels)
    unknown = sorted(names.keys() - set(manifest.classes))
    if unknown and not new_classes:
        raise DataError(
            f"{manifest.name} has no class {few([repr(name) for name in unknown])}, the class that"
            f" {counted(sum(names[name] for name in unknown), 'image')} were corrected to",
            f"{nearest(unknown[0], manifest.classes)}; --new-classes adds classes",
        )
    for name in unknown:
        odd = name != name.strip() or not name.isprintable() or "/" in name or "\\" in name
        if odd or name.startswith(".") or is_clutter(name) or not 0 < len(name.encode()) <= _LONGEST_CLASS_BYTES:
            raise DataError(f"{name!r} is not a valid class name", "a class becomes a folder: correct the images again")


def _without_exact_copies(
    labels: Sequence[CorrectedLabel], there: Sequence[ImageFile], left: list[NotAdded]
) -> list[CorrectedLabel]:
    known: dict[str, list[ImageFile]] = defaultdict(list)
    for file in there:
        known[file.sha256].append(file)
    fresh = []
    for label in labels:
        if label.sha256 in known:
            left.append(_copy(label, known[label.sha256], "it is", "already-there"))
        else:
            fresh.append(label)
    return fresh


def _copy(label: CorrectedLabel, files: Sequence[ImageFile], what: str, otherwise: NotAddedReason) -> NotAdded:
    """Say why an image is not added that the data has copies of: one in a split that judges weighs most."""
    for split, reason in _JUDGING.items():
        if found := [file.path for file in files if file.split == split]:
            return not_added(label, reason, f"{what} {found[0]}")
    if others := [file for file in files if file.label != label.label]:
        return not_added(label, "other-label", f"{what} {others[0].path}, and is corrected to {label.label!r}")
    return not_added(label, otherwise, f"{what} {files[0].path}")


def _receive(labels: Sequence[CorrectedLabel], folder: Path, left: list[NotAdded]) -> list[_Received]:
    """Write the images to files."""
    folder.mkdir(parents=True)
    received = []
    for label in labels:
        path = folder / label.name
        try:
            path.write_bytes(label.image())
        except DataError as error:
            left.append(not_added(label, "unusable", error.message))
        else:
            received.append(_Received(label, path))
    return received


def _without_near_copies(
    received: Sequence[_Received], there: Sequence[ImageFile], found: Scan, left: list[NotAdded]
) -> list[_Received]:
    """Leave out what cannot be used, and what looks the same as an image of the data or an earlier correction."""
    usable = found.usable
    old = usable[usable < len(there)]
    fresh: dict[int, CorrectedLabel] = {}
    for index, item in enumerate(received, start=len(there)):
        look = found.looks[index]
        if look.reason:
            left.append(NotAdded(item.label.sha256, item.label.label, "unusable", look.message))
        elif look.contrast < BLANK_CONTRAST:
            left.append(not_added(item.label, "unusable", "it is of a single colour"))
        elif len(copies := copies_of(found, index, old)):
            files = [there[copy] for copy in copies]
            left.append(_copy(item.label, files, "it is nearly identical to", "near-copy"))
        else:
            fresh[index] = item.label
    order = np.array(list(fresh), np.int64)
    near = {index: [int(other) for other in copies_of(found, index, order) if other != index] for index in fresh}
    kept: list[_Received] = []
    for index, label in fresh.items():
        alike = [fresh[other] for other in near[index]]
        if against := [other for other in alike if other.label != label.label]:
            why = f"it is nearly identical to {against[0].name}, which is corrected to {against[0].label!r}"
            left.append(not_added(label, "conflict", why))
        elif earlier := [item.label for item in kept if item.label in alike]:
            left.append(not_added(label, "near-copy", f"it is nearly identical to {earlier[0].name}"))
        else:
            look = found.looks[index]
            kept.append(_Received(label, received[index - len(there)].path, look.width, look.height))
    return kept


def _records(received: Sequence[_Received], manifest: Manifest, workload: Workload) -> list[ImageRecord]:
    """Return records of the new images: all in train, except those of new classes, which need all splits."""
    labels = {item.label.sha256: str(item.label.label) for item in received}
    new = {sha256: label for sha256, label in labels.items() if label not in manifest.classes}
    needed = max(workload.data.min_images_per_class, len(SPLITS))
    for label, count in sorted(Counter(new.values()).items()):
        if count < needed:
            raise DataError(
                f"the new class {label!r} has {counted(count, 'usable image')}, fewer than {needed}",
                "collect more corrections of it, or add a folder of images to the source of the data",
            )
    splits: dict[str, SplitName] = assign(new.items(), workload.data.split)
    records = []
    for item in received:
        split, label = splits.get(item.label.sha256, "train"), labels[item.label.sha256]
        path = f"{split}/{label}/{item.label.name}"
        records.append(
            ImageRecord(
                path=path, split=split, label=label, sha256=item.label.sha256, width=item.width, height=item.height
            )
        )
    return records


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def _checked(folder: Path, added: set[str], scratch: Path, workload: Workload) -> list[str]:
    """Return what `mlops data check` says about the new images. Raises DataError if it finds an error."""
    settings = dataset_check.CheckSettings(
        image_size=workload.model.image_size,
        max_pixels=workload.data.max_pixels,
        smallest_class=workload.data.min_images_per_class,
    )
    result = dataset_check.check(workload.name, list_images(folder), scratch, settings=settings)
    found = [item for item in result.findings if any(file.path in added for file in item.files)]
    if errors := [item.message for item in found if item.level is Severity.ERROR]:
        raise DataError(f"the new version would have errors: {few(errors, '; ')}", "see `mlops data check` for details")
    return [f"{item.kind}: {item.message}" for item in found]
