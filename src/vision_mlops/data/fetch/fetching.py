"""From the address of a dataset to a folder of class folders: download, check, lay out, and put in place at once.

Everything is created in a hidden folder next to the target, ``.NAME.fetch``, with which a later run of the same continues,
and which is renamed at the end. Archives are read twice: the first time only to check every name, type and size, and to
find the split lists; the second time, images go straight to their final place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vision_mlops import __version__
from vision_mlops.config.workload import Download
from vision_mlops.core.errors import DataError
from vision_mlops.core.files import remove_path
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.locks import locked
from vision_mlops.core.text import counted
from vision_mlops.data.fetch.assembly import AssembledFolder, Assembly, FetchOptions, FetchRequest, Progress, local_file
from vision_mlops.data.fetch.download_client import DownloadClient
from vision_mlops.data.fetch.http_responses import shown
from vision_mlops.data.fetch.verification import FULL
from vision_mlops.data.fetch_record import RECORD, FetchedFile, FetchRecord, differences, key_of, megabytes, read_record


@dataclass(frozen=True, slots=True)
class FetchResult:
    """A fetched folder; ``reused`` if it was already there. ``archives`` is where they were kept."""

    folder: Path
    record: FetchRecord
    reused: bool
    warnings: list[str] = field(default_factory=list)
    archives: Path | None = None


def fetch(
    request: FetchRequest,
    client: DownloadClient,
    options: FetchOptions | None = None,
    *,
    begin: Callable[[], None] = lambda: None,
    progress: Progress = lambda *_: None,
) -> FetchResult:
    """Download a dataset, whole or not at all.

    Args:
        request: What to fetch, and where to.
        client: Client that downloads, with the patience of the caller.
        options: How to fetch it.
        begin: Called before the first request; not called if everything is already there.
        progress: Called with the progress.

    Raises:
        DataError: it cannot be downloaded, is not what was wanted, is dangerous or damaged, or does not fit on the disk.
    """
    options = options or FetchOptions()
    key = _key(request.download)
    if (present := _present(request, key, options)) is not None:
        return present
    with _work(request.out) as work:
        if (present := _present(request, key, options)) is not None:  # created by another process in the meantime
            return present
        begin()
        try:
            made = Assembly(request, client, options, work, progress).make()
            record = _record(request, key, made)
            (made.tree / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            if error.errno not in FULL:
                raise
            hint = "free space, and run the same command to continue"
            raise DataError(f"{request.out}: {error.strerror}", hint) from error
        _put(made.tree, request.out, work)
        archives = None
        if options.keep_archives and any(file.parent == work for file in made.files.values()):
            archives = work
        else:
            remove_path(work)
    return FetchResult(request.out, record, False, made.warnings, archives)


def _key(download: Download) -> str:
    """Hash what is asked for; for files on this machine, the content counts too."""
    local = [file_hash(path) for archive in download.archives if (path := local_file(archive)) is not None]
    return hashlib.sha256("".join([key_of(download), *local]).encode()).hexdigest() if local else key_of(download)


def _present(request: FetchRequest, key: str, options: FetchOptions) -> FetchResult | None:
    """Return what is already in place if it is what is asked for; raise an error if it is something else."""
    out = request.out
    existing = next(path for path in (out, *out.parents) if path.exists())
    if not existing.is_dir():
        raise DataError(f"{existing} is a file", "choose another --out")
    if out.is_mount():  # it could not be renamed, and that would be noticed last
        raise DataError(f"{out} is a mount point", f"choose a folder in it: --out {out / request.name}")
    record = read_record(out)
    if record is None:
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out} is not empty and was not created by `mlops data fetch`", "choose another --out")
        return None
    if options.force:
        return None
    if record.key != key:
        raise DataError(
            f"{out} contains a different download: {record.source.removeprefix('download:')}",
            "--force replaces it; or choose another --out",
        )
    if different := differences(out, record):
        raise DataError(f"{out} was changed: {different}", "--force downloads and replaces it")
    return FetchResult(out, record, True)


def _work_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.fetch")


def kept(out: Path) -> int:
    """Return how many bytes an interrupted download has left for the next one."""
    return sum(path.stat().st_size for path in _work_folder(out).rglob("*") if path.is_file())


@contextmanager
def _work(out: Path) -> Iterator[Path]:
    """Provide the folder to work in, for one process at a time. It is removed if nothing in it is worth keeping."""
    work = _work_folder(out)
    with locked(work / "lock", DataError(f"another process is fetching {out}", "wait until it is done")):
        try:
            remove_path(work / "tree")  # of a process that was killed
            if not out.exists() and (work / "old").exists():
                (work / "old").rename(out)
            remove_path(work / "old")
            yield work
        finally:
            remove_path(work / "tree")
            if work.exists() and not any(path.name != "lock" for path in work.rglob("*") if path.is_file()):
                remove_path(work)


def _put(tree: Path, out: Path, work: Path) -> None:
    """Move the new folder into its place. An older one stays until then, and survives a kill in between."""
    if out.exists():
        out.rename(work / "old")
    tree.rename(out)
    remove_path(work / "old")


def _record(request: FetchRequest, key: str, made: AssembledFolder) -> FetchRecord:
    download = request.download
    known = {archive.url: archive.sha256 for archive in download.archives}
    return FetchRecord(
        name=request.name,
        key=key,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        files=[
            FetchedFile(url=shown(url), size=path.stat().st_size, sha256=known[url] or file_hash(path))
            for url, path in made.files.items()
        ],
        homepage=download.homepage,
        licence=download.licence,
        citation=download.citation,
        counts={split: dict(sorted(classes.items())) for split, classes in sorted(made.counts.items())},
        left_out=made.warnings,
    )


def describe(request: FetchRequest) -> str:
    """Say on one line what will be fetched."""
    size = f", {megabytes(request.download.size)}" if request.download.size else ""
    return f"fetching {request.name}: {counted(len(request.download.archives), 'file')}{size}, to {request.out}"
