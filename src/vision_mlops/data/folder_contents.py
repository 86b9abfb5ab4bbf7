"""Describes what a folder of data holds: its files with their hashes, its fingerprint, its images by class and split.

The fingerprint of prepared data is that of its manifest, so that models and data assets name the same data alike. That of
any other folder is a hash of the names and contents of its files; dates and the place of the folder do not matter.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vision_mlops import __version__
from vision_mlops.core.errors import DataError
from vision_mlops.core.files import is_clutter
from vision_mlops.core.folder_walk import EntryKind, walk
from vision_mlops.core.hashing import Fingerprints, total_hash
from vision_mlops.core.ignore_files import IGNORE_FILES, NEVER, snapshot_files
from vision_mlops.core.revision import git_commit
from vision_mlops.core.text import few
from vision_mlops.data.fetch_record import RECORD, read_record
from vision_mlops.data.image_files import is_image_file, is_text, on_one_line
from vision_mlops.data.manifest import MANIFEST, SPLITS, STATE, UNSPLIT, Manifest, read_manifest
from vision_mlops.data.sources import list_images

_LOCAL = re.compile(r"(file:)?(/|\\|~|[A-Za-z]:[\\/])")
_MAX_CLASSES = 100  # of which the counts are written down
_AT_ONCE = 200
_SHOWN = 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Content:
    """What a file or folder holds.

    Attributes:
        path: The file or folder, absolute.
        files: sha256 of each file by its name relative to the folder, sorted; of a single file, by its own name.
        bytes: Size of all files together.
        fingerprint: Identifies the content.
        counts: Number of images by split and class. Without splits there is one, ``all``.
        images: Number of images, also of those that are in no class.
        source: Where the images came from, as far as it is known.
        manifest: That of prepared data.
    """

    path: Path
    files: Mapping[str, str]
    bytes: int
    fingerprint: str
    counts: Mapping[str, Mapping[str, int]]
    images: int
    source: str
    manifest: Manifest | None = None

    def file(self, name: str) -> Path:
        """Return the path of one of the files."""
        return self.path / name if self.path.is_dir() else self.path

    def properties(self, *, shared: bool) -> dict[str, str]:
        """Return what a data asset says of its content; all values are text.

        Args:
            shared: Whether others will read it. Of a path of this machine, they only see the last part.
        """
        facts = {
            "fingerprint": self.fingerprint,
            "source": public_source(self.source) if shared else self.source,
            "images": str(self.images),
            "files": str(len(self.files)),
            "bytes": str(self.bytes),
            "git_commit": git_commit(),
            "created_by": f"vision-mlops {__version__}",
        }
        if 0 < max(map(len, self.counts.values()), default=0) <= _MAX_CLASSES:
            facts["counts"] = json.dumps(self.counts, ensure_ascii=False, separators=(",", ":"))
        return facts


def describe(path: Path, *, lenient: bool = False, progress: Progress | None = None) -> Content:
    """Describe a file or folder; every file is hashed, unless it was before and has not changed.

    Files that ``.amlignore`` (else ``.gitignore``) in the folder leaves out do not count, as on Azure ML.

    Args:
        path: File or folder.
        lenient: Take a prepared folder that is not what its manifest says as any other folder.
        progress: Called with (hashed, total) files now and then.

    Raises:
        DataError: it does not exist, is an empty folder, cannot be read, or is prepared data that was changed.
    """
    path = path.expanduser().resolve()
    if not path.exists():
        raise DataError(f"{path} does not exist", "give a folder of data")
    try:
        if path.is_file():
            return _of_file(path)
        names = data_files(path)
        prepared = _is_prepared(path)
        digests = _hashed(path, [name for name in names if not (prepared and name == STATE)], progress)
        size = sum((path / name).stat().st_size for name in digests)
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    if not digests:
        left = left_out(path)
        raise DataError(
            f"{path} contains no files" + (f": {left}" if left else ""), "choose a folder that contains files"
        )
    if prepared:
        try:
            manifest = _checked_manifest(path, digests)
        except DataError:
            if not lenient:
                raise
        else:
            splits = {str(split): labels for split, labels in manifest.counts().items()}
            images, source = len(manifest.images), manifest.source
            return Content(path, digests, size, manifest.fingerprint, splits, images, source, manifest)
    counts = _counted(path, digests)
    images = sum(is_image_file(name, path / name) for name in digests)
    record = read_record(path)
    # When it was downloaded does not make it other data.
    known = {name: digest for name, digest in digests.items() if not (record and name == RECORD)}
    return Content(path, digests, size, total_hash(known), counts, images, record.source if record else path.name)


def data_files(folder: Path) -> list[str]:
    """List the files of a folder that count as its content, by relative name, sorted."""
    return [name for name in snapshot_files(folder) if not is_clutter(name)]


def left_out(folder: Path, kept: Iterable[str] = ()) -> str:
    """Say what of a folder is not part of its content, and why; empty if everything is.

    Args:
        folder: The folder.
        kept: The files that are its content.
    """
    known = {*kept, STATE}
    below = walk(folder, lambda part: is_clutter(part) or part in NEVER)
    entries = [entry for entry in below if entry.kind is not EntryKind.FOLDER]
    ignored = sum(entry.kind is EntryKind.FILE and entry.name not in known for entry in entries)
    ignore = next((folder / name for name in IGNORE_FILES if (folder / name).is_file()), None)
    said = [f"{ignore} excludes {ignored} of its files"] if ignore is not None and ignored else []
    if odd := [f"{on_one_line(entry.name)} {entry.problem}" for entry in entries if entry.problem]:
        said.append(f"left out: {few(odd, '; ')}")
    return "; ".join(said)


def public_source(source: str) -> str:
    """Return a source as others may read it: for a local path, the last part."""
    return re.split(r"[\\/]", source.rstrip("\\/"))[-1] if _LOCAL.match(source) else source


def compare(files: Mapping[str, str], there: Mapping[str, str]) -> dict[str, list[str]]:
    """Compare files with what they should be: names under ``changed``, ``missing`` and ``added``; empty if equal."""
    found = {
        "changed": [name for name in files if name in there and there[name] != files[name]],
        "missing": [name for name in files if name not in there],
        "added": [name for name in there if name not in files],
    }
    return {kind: names for kind, names in found.items() if names}


def worded(differences: Mapping[str, list[str]]) -> str:
    """Describe differences for a message: how many of each kind, and the first names."""
    return "; ".join(f"{len(names)} {kind}: {few(names, most=_SHOWN)}" for kind, names in differences.items())


def _of_file(path: Path) -> Content:
    digests = _hashed(path.parent, [path.name])
    is_image = is_image_file(path.name, path)
    return Content(path, digests, path.stat().st_size, digests[path.name], {}, int(is_image), path.name)


def _hashed(folder: Path, names: list[str], progress: Progress | None = None) -> dict[str, str]:
    foreign = next((name for name in names if not is_text(name)), None)
    if foreign is not None:
        raise DataError(f"{folder}: the name '{on_one_line(foreign)}' is not UTF-8", "rename the file")
    found: dict[str, str] = {}
    with Fingerprints() as fingerprints:
        for start in range(0, len(names), _AT_ONCE):
            found |= fingerprints.each(folder, names[start : start + _AT_ONCE])
            if progress is not None:
                progress(len(found), len(names))
    return found


def _is_prepared(folder: Path) -> bool:
    """Return whether `mlops data prepare` wrote a folder: other tools have files named manifest.json as well."""
    file = folder / MANIFEST
    if not file.is_file():
        return False
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    return (folder / STATE).is_file() or (isinstance(content, dict) and {"fingerprint", "images"} <= content.keys())


def _checked_manifest(folder: Path, digests: Mapping[str, str]) -> Manifest:
    """Read the manifest of a prepared folder that contains exactly the images that it lists."""
    manifest = read_manifest(folder)
    listed = {record.path: record.sha256 for record in manifest.images}
    differences = compare(listed, {name: digest for name, digest in digests.items() if name != MANIFEST})
    if differences:
        hint = "run `mlops data prepare` again, or remove what does not belong there"
        raise DataError(f"{folder} does not match its {MANIFEST}: {worded(differences)}", hint)
    return manifest


def _counted(folder: Path, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count images by split and class as `mlops data prepare` would read them; empty without class folders."""
    try:
        source = list_images(folder)
    except DataError:
        return {}
    kept = set(names)
    found = Counter(
        (image.split or UNSPLIT, image.label)
        for image in source.images
        if image.path.relative_to(source.root).as_posix() in kept
    )
    splits = [split for split in (*SPLITS, UNSPLIT) if any(key[0] == split for key in found)]
    labels = sorted({label for _, label in found})
    return {split: {label: found[split, label] for label in labels} for split in splits}
