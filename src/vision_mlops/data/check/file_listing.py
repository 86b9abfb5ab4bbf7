"""The files to check: of a raw folder, as preparing would list them, or of a prepared one, by its manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from vision_mlops.core.errors import DataError
from vision_mlops.core.folder_walk import EntryKind
from vision_mlops.data import sources
from vision_mlops.data.check.dataset_findings import DatasetFinding, ImageFile
from vision_mlops.data.class_names import lookalikes
from vision_mlops.data.image_files import IGNORED, UNREADABLE, LeftOut, image_entries, is_text, other_files
from vision_mlops.data.manifest import MANIFEST, SPLITS, read_manifest
from vision_mlops.data.sources import RECORDS, Source


@dataclass(frozen=True, slots=True)
class ImageListing:
    """All image files of a folder, sorted, and what the folder's structure alone tells."""

    root: Path
    prepared: bool
    entries: list[ImageFile]
    classes: list[str]
    findings: list[DatasetFinding] = field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """Splits that occur, in their usual order; empty if the folder is not split."""
        present = {entry.split for entry in self.entries}
        return [name for name in SPLITS if name in present]


def readable(path: Path, root: Path) -> str:
    r"""Return the path below ``root`` as text that can be written anywhere; bytes that are not UTF-8 become ``\xNN``."""
    return printable((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())


def printable(name: str) -> str:
    r"""Return a name as text that can be written anywhere; bytes that are not UTF-8 become ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def list_images(folder: Path) -> ImageListing:
    """List a raw or prepared folder.

    Raises:
        DataError: it does not exist, has no images, or its manifest cannot be read.
    """
    root = folder.expanduser().resolve()
    if not root.exists():
        raise DataError(f"{folder} does not exist", "give a folder with one sub-folder of images per class")
    if (root / MANIFEST).is_file():
        return _prepared(root)
    return from_source(sources.list_images(root, str(folder)))


def from_source(source: Source) -> ImageListing:
    """List the images of a source, with findings about its structure."""
    root = source.root
    entries = [
        ImageFile(readable(image.path, root), index, printable(image.label), image.split or "", image.path)
        for index, image in enumerate(source.images)
    ]
    filled = {entry.label for entry in entries}
    findings = [DatasetFinding("loose", f"{name} is not in a class folder", (ImageFile(name),))
                for name in (readable(path, root) for path in source.loose)]  # fmt: skip
    empty = map(printable, source.empty)
    findings += [DatasetFinding("empty-class", f"class folder {name!r} has no images") for name in empty]
    findings += [DatasetFinding("lookalike-class", line) for line in lookalikes(source.classes)]
    findings += [
        DatasetFinding("bad-name", f"{entry.path}: the name is not UTF-8", (entry,))
        for entry in entries
        if not is_text(str(entry.place))
    ]
    others = tuple(ImageFile(printable(item.name)) for item in source.left_out if item.reason == IGNORED)
    if others:
        findings.append(DatasetFinding("ignored", other_files(len(others), (file.path for file in others)), others))
    findings += [
        DatasetFinding(
            "unreadable" if item.reason == UNREADABLE else "not-used",
            item.message,
            (ImageFile(printable(item.name)),),
        )
        for item in source.left_out
        if item.reason != IGNORED
    ]
    return ImageListing(root, False, entries, sorted(filled), findings)


def _prepared(root: Path) -> ImageListing:
    manifest = read_manifest(root)
    entries: list[ImageFile] = []
    findings: list[DatasetFinding] = []
    for record in sorted(manifest.images, key=lambda image: image.path):
        path = root / record.path
        if path.is_file():
            entries.append(ImageFile(record.path, len(entries), record.label, record.split, path, record.sha256))
        else:
            gone = (ImageFile(record.path, -1, record.label, record.split),)
            findings.append(DatasetFinding("missing-file", f"{record.path} is listed in {MANIFEST} but missing", gone))
    if not entries:
        raise DataError(f"{root}: none of the files in its {MANIFEST} exists", "run `mlops data prepare` again")
    listed = {record.path for record in manifest.images}
    findings += [DatasetFinding("lookalike-class", line) for line in lookalikes(manifest.classes)]
    for found in image_entries(root):  # the folders need not be as in a source: the manifest says what belongs to it
        name = printable(found.name)
        if not isinstance(found, LeftOut) and found.kind is not EntryKind.FILE:
            continue
        if name not in listed and name not in RECORDS:
            findings.append(DatasetFinding("not-listed", f"{name} is not in {MANIFEST}", (ImageFile(name),)))
    return ImageListing(root, True, entries, list(manifest.classes), findings)
