"""Lists of image addresses: read from text or CSV, and downloaded in parallel."""

from __future__ import annotations

import csv
import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from vision_mlops.core.errors import DataError, DownloadError, ImageError
from vision_mlops.core.text import counted, few
from vision_mlops.data.fetch.class_layout import is_folder_name
from vision_mlops.data.fetch.download_client import DownloadClient
from vision_mlops.data.fetch.http_responses import shown
from vision_mlops.data.fetch.verification import ExpectedFile
from vision_mlops.data.split_folders import SPLIT_FOLDERS
from vision_mlops.images.decoding import IMAGE_SUFFIXES, read_suffix

MAX_LIST_BYTES = 256 * 2**20
MAX_IMAGE_BYTES = 256 * 2**20
_COLUMNS = ("url", "label", "split")
_HINT = "a list has one address per line, or the columns url,label[,split]"


class ListError(DataError):
    """A list of addresses cannot be read."""


@dataclass(frozen=True, slots=True)
class Row:
    """An image of a list."""

    url: str
    label: str
    split: str = ""

    def place(self, suffix: str) -> str:
        """Return the path of the image in the new folder. Its name is a hash of the address, not chosen by the server."""
        name = hashlib.sha256(self.url.encode()).hexdigest()[:20] + suffix
        return "/".join([*([self.split] if self.split else []), self.label, name])


def read_rows(content: bytes, name: str) -> list[Row]:
    """Return the images that a list names, each once.

    Args:
        content: UTF-8 text. Without a column ``label``, the class is the last folder of the address.
        name: Name of the list in messages.

    Raises:
        ListError: a line is wrong; the message names it.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListError(f"{name}: neither an archive nor UTF-8 text", _HINT) from error
    if text.lstrip()[:9].lower().startswith(("<!doctype", "<html")):
        raise ListError(f"{name}: is a web page, neither an archive nor a list", "give the address of the file itself")
    columns: Sequence[str] = _COLUMNS
    rows: dict[str, Row] = {}
    for number, cells in _lines(text, name):
        lowered = [cell.strip().lower() for cell in cells]
        if not rows and "url" in lowered:
            columns = lowered
            continue
        row = _row(dict(zip(columns, (cell.strip() for cell in cells), strict=False)), f"{name}, line {number}")
        if rows.setdefault(row.url, row) != row:
            raise ListError(
                f"{name}, line {number}: {shown(row.url)} is listed twice, with a different class or split", _HINT
            )
    if not rows:
        raise ListError(f"{name}: has no addresses", _HINT)
    if len({bool(row.split) for row in rows.values()}) > 1:
        raise ListError(f"{name}: some images have a split and some have none", "give all of them one, or none")
    return list(rows.values())


def _lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ListError(f"{name}, line {reader.line_num}: {error}", _HINT) from error


def _row(cells: dict[str, str], where: str) -> Row:
    url, split = cells.get("url", ""), cells.get("split", "").lower()
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ListError(f"{where}: {url[:100]!r} is not an address: {error}", _HINT) from error
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc or any(sign.isspace() for sign in url):
        raise ListError(f"{where}: {url[:100]!r} is not an address", _HINT)
    label = cells.get("label", "") or PurePosixPath(unquote(parts.path)).parent.name
    if not is_folder_name(label):
        hint = "add a column label; it becomes the name of a folder"
        raise ListError(f"{where}: {label!r} is not a valid class name", hint)
    if split and split not in SPLIT_FOLDERS:
        raise ListError(f"{where}: {split!r} is not a split", "use train, val or test")
    return Row(url, label, SPLIT_FOLDERS[split] if split else "")


def download_rows(
    rows: Sequence[Row],
    folder: Path,
    client: DownloadClient,
    *,
    jobs: int,
    progress: Callable[[int, int | None], None],
) -> tuple[dict[Row, Path], dict[Row, DownloadError]]:
    """Download the images of a list to ``folder``; those that are already there are kept.

    Returns:
        The path of each image, and the reason for each that cannot be downloaded.

    Raises:
        DataError: the disk is full.
    """
    done: dict[Row, Path] = {}
    failed: dict[Row, DownloadError] = {}
    # Its threads end with the process. An executor of concurrent.futures would wait for those whose servers are silent.
    with ThreadPool(min(jobs, len(rows))) as pool, ExitStack() as stack:
        stack.callback(client.stop)
        for count, (row, result) in enumerate(pool.imap_unordered(partial(_try, folder, client), rows), start=1):
            if isinstance(result, Path):
                done[row] = result
            else:
                failed[row] = result
            progress(count, len(rows))
        stack.pop_all()
    return done, failed


def _try(folder: Path, client: DownloadClient, row: Row) -> tuple[Row, Path | DownloadError]:
    """Download one image, or return why that cannot be done."""
    try:
        return row, _image(row, folder, client)
    except DownloadError as error:
        return row, error


_MAKING = threading.Lock()


def _image(row: Row, folder: Path, client: DownloadClient) -> Path:
    """Download one image and give it the suffix of its format."""
    plain = folder / row.place("")
    for suffix in IMAGE_SUFFIXES:
        if (found := folder / row.place(suffix)).is_file():
            return found
    with _MAKING:
        plain.parent.mkdir(parents=True, exist_ok=True)
    client.download(ExpectedFile(row.url, limit=MAX_IMAGE_BYTES), plain)
    try:
        target = plain.with_suffix(_suffix(plain, row.url))
    except DownloadError:
        plain.unlink()
        raise
    plain.rename(target)
    return target


def _suffix(path: Path, url: str) -> str:
    """Determine the suffix by the content: what a server calls an image may be an error page."""
    try:
        return read_suffix(path)
    except ImageError as error:
        problem = error.message.removeprefix(f"{path}: ") if error.reason == "unsupported_format" else ""
        what = f"the response is not an image{problem and ' that can be used: '}{problem}"
        raise DownloadError(f"{shown(url)}: {what}", "remove it from the list", 200) from error


def failures(failed: dict[Row, DownloadError]) -> DataError:
    """Combine the errors of all images that could not be downloaded."""
    lines = [error.message for error in failed.values()]
    return DataError(
        f"{counted(len(lines), 'image')} cannot be downloaded: {few(lines, '; ')}",
        "the others are kept: run the same command to retry these, or pass --skip-missing to continue without them",
    )
