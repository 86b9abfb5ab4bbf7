"""What `mlops data fetch` writes next to the images: where they came from, under which terms, and how many there are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import Field

from vision_mlops.config import list_workloads
from vision_mlops.config.workload import Download, Workload
from vision_mlops.core import paths
from vision_mlops.core.errors import DataError
from vision_mlops.core.files import is_clutter
from vision_mlops.core.folder_walk import EntryKind, walk
from vision_mlops.core.text import few
from vision_mlops.data.manifest import UNSPLIT, DataRecord

RECORD = "fetch.json"
_KEYS = ("archives", "images", "label_pattern", "splits", "list_variable")


class FetchedFile(DataRecord):
    """A file that was downloaded. Its address is without user and query, which may hold a secret; ``size`` in bytes."""

    url: str
    size: int
    sha256: str


class FetchRecord(DataRecord):
    """Content of ``fetch.json``. ``counts`` are images by split, or ``all``, and class; ``key`` is of what was asked for."""

    schema_version: int = 1
    name: str
    key: str
    fetched: str
    version: str
    files: list[FetchedFile]
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    counts: dict[str, dict[str, int]]
    left_out: list[str] = Field(default_factory=list)

    @property
    def images(self) -> int:
        """Number of all images."""
        return sum(count for classes in self.counts.values() for count in classes.values())

    @property
    def source(self) -> str:
        """Where the images came from, for the manifest of prepared data."""
        return "download:" + " ".join(file.url for file in self.files)


def key_of(download: Download) -> str:
    """Hash everything in a download that determines the images."""
    content = download.model_dump(mode="json", include=set(_KEYS))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> FetchRecord | None:
    """Read the record of a fetched folder; None if it has none that can be read."""
    try:
        return FetchRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def differences(folder: Path, record: FetchRecord) -> str:
    """Describe how the number of files differs from the record; empty if it does not."""
    wanted = {
        (label if split == UNSPLIT else f"{split}/{label}"): count
        for split, classes in record.counts.items()
        for label, count in classes.items()
    }
    off = [
        name
        for name, count in wanted.items()
        if count != sum(entry.kind is EntryKind.FILE for entry in walk(folder / name, is_clutter))
    ]
    if not off:
        return ""
    return f"the number of images in {few(off, most=3)} does not match the download"


def download_folder(workload: Workload) -> Path:
    """Return the folder for a workload's downloads: ``data.path``, or ``downloads/NAME`` of the home folder."""
    if workload.data.path:
        return Path(workload.data.path).expanduser().resolve()
    return paths.home() / "downloads" / workload.name


def fetched_folder(workload: Workload) -> Path:
    """Return the folder of downloaded images of a workload with ``source: download``.

    Raises:
        DataError: they are not there, or are those of another ``download:`` section.
    """
    download = workload.data.download
    assert download is not None, "the model of the workload checks it"
    folder = download_folder(workload)
    record = read_record(folder)
    command = f"mlops data fetch {workload.name if workload.name in list_workloads() else 'FILE.yml'}"
    if record is None:
        size = f" ({megabytes(download.size)})" if download.size else ""
        raise DataError(
            f"the images of workload {workload.name} have not been downloaded yet{size}: {folder} has no {RECORD}",
            command,
        )
    if record.key != key_of(download):
        raise DataError(
            f"{folder} was downloaded with a different `download:` section than workload {workload.name} has now",
            f"{command} --force",
        )
    return folder


def megabytes(size: int) -> str:
    """Format a number of bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"
