"""Creates a folder of class folders in a working folder: from archives, or from a list of image addresses."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vision_mlops.config.workload import Archive, Download
from vision_mlops.core.errors import DataError
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.text import counted, few
from vision_mlops.data.class_names import lookalikes
from vision_mlops.data.fetch import url_list
from vision_mlops.data.fetch.archives import ArchiveError, Budget, Names, entries, kind_of
from vision_mlops.data.fetch.class_layout import Layout, lay_out
from vision_mlops.data.fetch.download_client import DownloadClient
from vision_mlops.data.fetch.partial_file import Part
from vision_mlops.data.fetch.published_splits import MAX_BYTES, read_list
from vision_mlops.data.fetch.verification import ExpectedFile, check_space
from vision_mlops.data.image_files import (
    claims_to_be_image,
    hidden_folder,
    in_hidden_folders,
    is_hidden,
    is_image_content,
    other_files,
)
from vision_mlops.data.manifest import UNSPLIT, SplitName

_MANY_TIMES = 20
_SMALLEST_LIMIT = 256 * 10**6

Progress = Callable[[str, int, int | None, str], None]
"""Called with what is done, how much of it, how much there is, and the unit: ``bytes`` or ``images``."""


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What to fetch.

    Attributes:
        name: Name of the dataset.
        out: Folder to create.
        download: Archives and their layout. A single file may also be a list of addresses of images.
        elsewhere: Whether a workload would look for its images in another folder than ``out``.
    """

    name: str
    out: Path
    download: Download
    elsewhere: bool = True


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        force: Download even if the folder exists, and replace what was downloaded there before.
        keep_archives: Keep the archives in ``.NAME.fetch``, where the next run finds them.
        jobs: Images of a list to download at once.
        skip_missing: Leave out images of a list that cannot be downloaded.
    """

    force: bool = False
    keep_archives: bool = False
    jobs: int = 8
    skip_missing: bool = False


@dataclass(slots=True)
class AssembledFolder:
    """A folder with images, and what goes into its record. ``files`` are paths by address."""

    tree: Path
    counts: dict[str, dict[str, int]]
    files: dict[str, Path]
    warnings: list[str]


class Assembly:
    """Makes the folder of one request."""

    def __init__(
        self, request: FetchRequest, client: DownloadClient, options: FetchOptions, work: Path, progress: Progress
    ) -> None:
        self._out = request.out
        self._settings = request.download
        self._client = client
        self._options = options
        self._work = work
        self._progress = progress
        self._warnings: list[str] = []
        self._others: list[str] = []

    def make(self) -> AssembledFolder:
        """Download, and make the folder of images."""
        files = self._download()
        only = next(iter(files.values()))
        try:
            if len(files) == 1 and self._settings.splits is None and kind_of(only) is None:
                return self._make_of_list(only, files)
            return self._make_of_archives(files)
        except (ArchiveError, url_list.ListError):
            for archive in self._settings.archives:  # the next run must not find them: the server may have better ones
                if archive.sha256 is None and files[archive.url].parent == self._work:
                    files[archive.url].unlink()
            raise

    def _download(self) -> dict[str, Path]:
        """Download all files and return them by address."""
        given = {archive.url: local_file(archive) for archive in self._settings.archives}
        # With a hash of the address: a kept archive must not be taken for one of the same name from elsewhere.
        names = {url: f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{plain_name(url)}" for url in given}
        targets = {url: path or self._work / names[url] for url, path in given.items()}
        remote = [archive for archive in self._settings.archives if given[archive.url] is None]
        missing = [archive for archive in remote if not _whole(archive, targets[archive.url], self._options.force)]
        # The images in the archives are about as large as the archives: they are compressed as it is.
        rest = sum((archive.size or 0) - Part(targets[archive.url]).size for archive in missing if archive.size)
        check_space(self._out, rest + sum(archive.size or 0 for archive in remote))
        for archive in missing:
            target = targets[archive.url]
            name = plain_name(archive.url)
            wanted = ExpectedFile(archive.url, archive.size, archive.sha256)
            self._client.download(wanted, target, progress=partial(self._report, name))
        return targets

    def _report(self, name: str, done: int, total: int | None) -> None:
        self._progress(name, done, total, "bytes")

    def _make_of_archives(self, files: Mapping[str, Path]) -> AssembledFolder:
        packed = sum(path.stat().st_size for path in files.values())
        limit = self._settings.max_size or max(_MANY_TIMES * packed, _SMALLEST_LIMIT)
        sources = [(files[each.url], plain_name(each.url), each.into) for each in self._settings.archives]
        sizes, lists, folders = self._survey(sources, limit)
        layout = lay_out([*sizes, *self._others], self._settings, lists, lambda name: name in sizes, folders)
        total = sum(sizes[name] for name in layout.targets)
        check_space(self._out, total)
        tree = self._work / "tree"
        self._unpack(sources, limit, layout, tree, total)
        self._tell(layout)
        return AssembledFolder(tree, layout.counts, dict(files), self._warnings)

    def _survey(
        self, sources: Sequence[tuple[Path, str, str]], limit: int
    ) -> tuple[dict[str, int], dict[SplitName, list[str]] | None, set[str]]:
        """Check everything in the archives: return image sizes in bytes by name, the split lists, and listed folders."""
        wanted = {path: split for split, path in self._settings.splits.named().items()} if self._settings.splits else {}
        budget, names = Budget(limit), Names()
        sizes: dict[str, int] = {}
        lists: dict[SplitName, list[str]] = {}
        hidden: Counter[str] = Counter()
        doubtful: dict[str, str] = {}
        folders: set[str] = set()
        for path, shown_name, into in sources:
            listed: set[str] = set()
            for entry in entries(path, shown_name, budget, listed):
                name = f"{into}/{entry.name}" if into else entry.name
                image = claims_to_be_image(name) or is_image_content(entry.head())
                if is_hidden(name):
                    if image and (inside := hidden_folder(name)) is not None:
                        hidden[inside] += 1
                    continue
                names.add(shown_name, name)
                if entry.doubtful:
                    doubtful.setdefault(shown_name, name)
                if image:
                    sizes[name] = entry.size
                elif name not in wanted:
                    self._others.append(name)
                self._progress("checking the archives", len(sizes), None, "images")
                split = wanted.get(name)
                if split is not None:
                    if entry.size > MAX_BYTES:
                        raise DataError(
                            f"{shown_name}: the split list {name} is too large", "check data.download.splits"
                        )
                    lists[split] = read_list(b"".join(entry.chunks()), name, self._settings.list_variable)
            folders |= {f"{into}/{folder}" if into else folder for folder in listed}
        absent = [path for path, split in wanted.items() if split not in lists]
        if absent:
            raise DataError(f"the archives do not contain the split list {absent[0]!r}", "check data.download.splits")
        self._warnings += [f"left out: {item.message}" for item in in_hidden_folders(hidden)]
        self._warnings += [
            f"{archive} does not state the encoding of its names: cp437 is assumed, which gives {name!r}; if that is wrong,"
            " repack it with UTF-8 names"
            for archive, name in doubtful.items()
        ]
        return sizes, lists or None, {folder for folder in folders if not is_hidden(folder)}

    def _unpack(
        self, sources: Sequence[tuple[Path, str, str]], limit: int, layout: Layout, tree: Path, total: int
    ) -> None:
        """Write the images, each once and to its final place."""
        tree.mkdir()
        budget = Budget(limit)
        made: set[Path] = set()
        done = 0
        for path, shown_name, into in sources:
            for entry in entries(path, shown_name, budget):
                place = layout.targets.get(f"{into}/{entry.name}" if into else entry.name)
                if place is None:
                    continue
                target = tree / place
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                with target.open("xb") as stream:
                    for content in entry.chunks():
                        stream.write(content)
                done += entry.size
                self._progress("unpacking", done, total, "bytes")

    def _tell(self, layout: Layout) -> None:
        for what, names in (("in none of the split lists", layout.unlisted), ("in no class folder", layout.loose)):
            if names:
                self._warnings.append(f"left out: {counted(len(names), 'image')} {what}: {few(sorted(names))}")
        if layout.empty:
            found = counted(len(layout.empty), "class folder")
            self._warnings.append(f"left out: {found} without images: {few(layout.empty)}")
        if layout.others:
            self._warnings.append(f"left out: {other_files(len(layout.others), sorted(layout.others))}")
        self._warnings += lookalikes(label for classes in layout.counts.values() for label in classes)

    def _make_of_list(self, file: Path, files: Mapping[str, Path]) -> AssembledFolder:
        if file.stat().st_size > url_list.MAX_LIST_BYTES:
            raise DataError(
                f"{file.name}: neither an archive nor a list of addresses", "supported are tar, zip, text and CSV"
            )
        rows = url_list.read_rows(file.read_bytes(), next(plain_name(url) for url in files))
        tree = self._work / "images"
        done, failed = url_list.download_rows(
            rows,
            tree,
            self._client,
            jobs=self._options.jobs,
            progress=lambda count, total: self._progress("downloading", count, total, "images"),
        )
        if failed and not (self._options.skip_missing and done):
            raise url_list.failures(failed)
        self._warnings += [f"left out: {error.message}" for error in failed.values()]
        wanted = set(done.values())
        for path in tree.rglob("*"):  # of an older list, or of what failed
            if path.is_file() and path not in wanted:
                path.unlink()
        layout = Layout()
        for row in done:
            layout.count(row.split or UNSPLIT, row.label)
        self._warnings += lookalikes(row.label for row in rows)
        return AssembledFolder(tree, layout.counts, dict(files), self._warnings)


def _whole(archive: Archive, path: Path, force: bool) -> bool:
    """Return whether an archive was downloaded before and kept; without a checksum, ``force`` downloads it again."""
    if not path.is_file() or path.stat().st_size != (archive.size or path.stat().st_size):
        return False
    return file_hash(path) == archive.sha256 if archive.sha256 else not force


def plain_name(url: str) -> str:
    """Return the last part of an address as a name for people and files: letters, digits, dots, dashes."""
    name = Path(unquote(urlsplit(url).path)).name
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[-60:] or "download"


def local_file(archive: Archive) -> Path | None:
    """Return the local file that an address names; None for any other address."""
    parts = urlsplit(archive.url)
    if parts.scheme != "file":
        return None
    path = Path(unquote(parts.path))
    if not path.is_file():
        raise DataError(f"{path} is not a file", "check the path")
    if archive.size not in (None, path.stat().st_size):
        raise DataError(f"{path}: expected {archive.size:,} bytes, it has {path.stat().st_size:,}", "get another copy")
    if archive.sha256 is not None and (found := file_hash(path)) != archive.sha256:
        raise DataError(f"{path}: expected sha256 {archive.sha256}, it has {found}", "get another copy")
    return path
