"""Downloads of http and https inputs, kept below the home folder and asked for again only where the server has newer."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vision_mlops import paths
from vision_mlops.exceptions import PipelineError

_TIMEOUT_SECONDS = 30


def download(url: str) -> Path:
    """File with the content of an address.

    A copy from before is used where the server says that it has not changed, or cannot be reached.

    Raises:
        PipelineError: the server refuses, cannot be reached and there is no copy, or stops halfway.
    """
    folder = paths.home() / "cache" / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:24]
    shown = url.partition("?")[0]  # what comes after it may be a signature
    target = folder / "content" / _name(url)
    facts = _read(folder / "facts.json") if target.is_file() else {}
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "vision-mlops", **_conditions(facts)})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            expected = answer.headers.get("Content-Length")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as stream:
                temporary = Path(stream.name)
                try:
                    shutil.copyfileobj(answer, stream)
                    stream.flush()
                    size = temporary.stat().st_size
                    if expected is not None and size != int(expected):
                        raise PipelineError(f"{shown}: {size} of {expected} bytes came", "try again")
                    temporary.replace(target)
                finally:
                    temporary.unlink(missing_ok=True)
            kept = {"url": url, "etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
            paths.atomic_write(folder / "facts.json", json.dumps(kept) + "\n")
    except urllib.error.HTTPError as error:
        if error.code != 304:
            raise PipelineError(
                f"{shown}: the server answers {error.code} {error.reason}", "check the address"
            ) from error
    except PipelineError:
        raise
    except http.client.IncompleteRead as error:
        raise PipelineError(f"{shown}: the answer ends too early", "try again") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        if not target.is_file():
            reason = getattr(error, "reason", error)
            raise PipelineError(
                f"{shown} cannot be downloaded: {reason}", "check the address and the network"
            ) from error
    return target


def _name(url: str) -> str:
    """Name for the file: a step may go by its ending."""
    try:
        name = Path(unquote(urlsplit(url).path)).name.replace("\0", "")
    except ValueError as error:
        raise PipelineError(f"{url!r} is no address: {error}", "check it") from error
    return name[-60:] if name not in ("", "..") else "download"


def _conditions(facts: dict[str, str]) -> dict[str, str]:
    headers = {"If-None-Match": facts.get("etag"), "If-Modified-Since": facts.get("modified")}
    return {key: value for key, value in headers.items() if value}


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
