"""Downloads http and https inputs below the home folder, and again only if the server has a newer version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vision_mlops.core import paths
from vision_mlops.core.errors import DataError, DownloadError, PipelineError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.locks import locked
from vision_mlops.data.fetch.download_client import DownloadClient, DownloadRetryPolicy
from vision_mlops.data.fetch.partial_file import Version
from vision_mlops.data.fetch.verification import ExpectedFile

_LONGEST_SECONDS = 3600.0  # while another job downloads the same file


def download(url: str, patience: DownloadRetryPolicy | None = None) -> Path:
    """Return a file with the content of an address.

    An earlier copy is used if the server says that it has not changed, or cannot be reached.

    Args:
        url: http or https.
        patience: How often and how long to try; by default, fewer times if a copy exists.

    Raises:
        PipelineError: the server refuses, stops halfway, or cannot be reached and no copy exists.
    """
    folder = paths.home() / "cache" / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:24]
    target = folder / "content" / _name(url)
    lock_path = folder / "lock"
    refusal = PipelineError(f"another job has been downloading {target.name} for an hour", "cancel it or wait")
    with locked(lock_path, refusal, wait=_LONGEST_SECONDS):
        try:
            return _newest(url, folder, target, patience)
        finally:
            lock_path.unlink()  # while it is held: whoever waits for it takes a new one


def _newest(url: str, folder: Path, target: Path, patience: DownloadRetryPolicy | None) -> Path:
    facts = folder / "facts.json"
    known = _read(facts) if target.is_file() else None
    patience = patience or DownloadRetryPolicy(attempts=2 if target.is_file() else 4)
    try:
        version = DownloadClient(patience).download(ExpectedFile(url), target, known=known)
    except DataError as error:
        if isinstance(error, DownloadError) and error.status == 0 and target.is_file():  # the server does not respond
            return target
        raise PipelineError(error.message, error.hint) from error
    if version is not None:
        atomic_write(facts, json.dumps({"url": url, **asdict(version)}) + "\n")
    return target


def _name(url: str) -> str:
    """Return the name for the file, with its suffix, on which a step may depend."""
    try:
        name = Path(unquote(urlsplit(url).path)).name.replace("\0", "")
    except ValueError as error:
        raise PipelineError(f"{url!r} is not a valid address: {error}", "correct it") from error
    return name[-60:] if name not in ("", "..") else "download"


def _read(path: Path) -> Version | None:
    """Read the version of the copy; return None if it is unknown."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Version(str(content.get("etag") or ""), str(content.get("modified") or ""))
    except (OSError, ValueError, AttributeError):
        return None
