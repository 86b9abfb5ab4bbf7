"""Finds the data that a definition names: a local path, a datastore or registered asset of this machine, or an address."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vision_mlops.core import paths
from vision_mlops.core.errors import DataError, DownloadError, PipelineError
from vision_mlops.core.files import atomic_write, remove_path
from vision_mlops.core.locks import locked
from vision_mlops.data.asset_store import AssetStore
from vision_mlops.data.fetch.download_client import DownloadClient, DownloadRetryPolicy
from vision_mlops.data.fetch.partial_file import Version
from vision_mlops.data.fetch.verification import ExpectedFile
from vision_mlops.jobs.definitions.plan.nodes import DataInput

_DATASTORE = re.compile(r"azureml://(?:.*/)?datastores/([\w-]+)/paths/(.*)", re.IGNORECASE)
_FOLDERS = frozenset({"uri_folder", "mltable", "mlflow_model"})
MODELS = frozenset({"custom_model", "mlflow_model", "triton_model"})
_MARKS = {"mltable": "MLTable", "mlflow_model": "MLmodel"}
_LONGEST_SECONDS = 3600.0  # while another job downloads the same file

ModelFinder = Callable[[str], Path | None]


def datastore_path(text: str) -> Path | None:
    """Return the path below ``datastores/`` of the home folder for ``azureml://datastores/...``; None for other text."""
    match = _DATASTORE.fullmatch(text)
    if match is None:
        return None
    root = (paths.home() / "datastores" / match[1]).resolve()
    path = (root / match[2]).resolve()
    if not path.is_relative_to(root):
        raise PipelineError(f"{text!r} leads out of the datastore {match[1]!r}", "remove the ..")
    return path


@dataclass(frozen=True)
class Sources:
    """Finds data; the content of an address is downloaded once.

    Attributes:
        find_model: Returns the folder of a registered model, from NAME:VERSION or NAME@LABEL; None if it is unknown.
        patience: How often and how long to try to reach servers.
    """

    find_model: ModelFinder | None = None
    patience: DownloadRetryPolicy | None = None
    _assets: AssetStore = field(default_factory=AssetStore)
    _downloaded: dict[str, Path] = field(default_factory=dict)

    def find(self, data: DataInput, what: str) -> Path:
        """Return the absolute path of the data.

        Args:
            data: The data, as the definition names it.
            what: What the data is for, for messages: ``step 'train': input 'data'``.

        Raises:
            PipelineError: it does not exist, is of another type, or is in a place that this machine cannot read.
        """
        try:
            path = self._path(data, what)
            exists = path.exists()
        except PipelineError:
            raise
        except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a ~user who does not exist
            raise PipelineError(f"{what}: {data.path!r} cannot be used: {error}", "check the path") from error
        if not exists:
            raise PipelineError(f"{what}: {data.path!r} does not exist", f"looked for {path}")
        if data.type == "uri_file" and not path.is_file():
            raise PipelineError(f"{what}: {data.path!r} is a folder, not a file", "use `type: uri_folder`")
        if data.type in _FOLDERS and not path.is_dir():
            raise PipelineError(f"{what}: {data.path!r} is a file, not a folder", "use `type: uri_file`")
        mark = _MARKS.get(data.type)
        if mark and not (path / mark).is_file():
            raise PipelineError(f"{what}: {data.path!r} contains no {mark} file", f"it is not of type {data.type}")
        return path

    def _path(self, data: DataInput, what: str) -> Path:
        text = data.path
        if data.open:
            raise PipelineError(f"{what} has no value", "run a job that gives it a path or value")
        store = datastore_path(text)
        if store is not None:
            return store
        scheme = urlsplit(text).scheme.lower()
        if scheme in ("http", "https"):
            if data.type in _FOLDERS:
                raise PipelineError(f"{what}: {text!r} is one file, not a folder", "use `type: uri_file`")
            if text not in self._downloaded:  # the same one for all steps of a job
                self._downloaded[text] = download(text, self.patience)
            return self._downloaded[text]
        if text.lower().startswith("azureml:") and not text.lower().startswith("azureml://"):
            return self._registered(text.partition(":")[2], data.type, what)
        if "://" in text and len(scheme) > 1 and scheme != "file":  # "Client: A" is a folder
            raise PipelineError(
                f"{what}: {text!r} cannot be read on this machine", "download it, or run with --on azure"
            )
        local = unquote(urlsplit(text).path) if text.lower().startswith("file://") else text.removeprefix("file:")
        return (data.base / Path(local).expanduser()).resolve()

    def _registered(self, reference: str, type_: str, what: str) -> Path:
        if type_ in MODELS and self.find_model is not None:
            found = self.find_model(reference)
            if found is not None:
                return found
        return self._assets.find("models" if type_ in MODELS else "data", reference, what).content


def private_copy(source: Path, target: Path) -> Path:
    """Make a copy that a step may write into, for inputs of mode download or rw_mount. A file goes into ``target``.

    Raises:
        OSError: something cannot be read, or the disk is full.
    """
    remove_path(target)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_copy_writable, ignore_dangling_symlinks=True)
        for folder, _, _ in os.walk(target):
            Path(folder).chmod(Path(folder).stat().st_mode | stat.S_IRWXU)
        return target
    target.mkdir(parents=True)
    return Path(_copy_writable(source, target / source.name))


def _copy_writable(source: str | Path, target: str | Path) -> str:
    copy = shutil.copy2(source, target)
    Path(copy).chmod(Path(copy).stat().st_mode | stat.S_IWUSR)
    return str(copy)


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
