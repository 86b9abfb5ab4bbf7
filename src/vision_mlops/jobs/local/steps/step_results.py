"""The folders that steps write into, and the cache of complete ones, which a ``result.json`` marks that is written last."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mlops.core import paths
from vision_mlops.core.files import atomic_write, remove_path
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.locks import HeldLock, take
from vision_mlops.jobs.definitions.plan.nodes import OutputTarget
from vision_mlops.jobs.definitions.step_graph import ARTIFACTS
from vision_mlops.jobs.local.steps.step_process import end_orphans

_FORMAT = 1
_OWNER = "owner.json"


@dataclass(frozen=True)
class StepResult:
    """Outputs of a step that succeeded: absolute path and content hash by name."""

    outputs: dict[str, Path]
    hashes: dict[str, str]
    run_id: str
    seconds: float
    job: str


def cache_key(parts: Mapping[str, Any]) -> str:
    """Hash everything that a step's outputs depend on."""
    text = json.dumps({"format": _FORMAT, **parts}, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def cache_folder(key: str) -> Path:
    """Return the folder that the step with a key writes to."""
    return paths.home() / "cache" / "steps" / key


def read_result(folder: Path, key: str, names: Iterable[str], fingerprints: Fingerprints) -> StepResult | None:
    """Read what an earlier run left in a folder; return None if it is incomplete, or was changed since.

    Args:
        folder: The folder, as :func:`cache_folder` returns it, or one of a job.
        key: Key that it must have been made with.
        names: Outputs that it must have; it may have default artifacts as well.
        fingerprints: Compares the contents.
    """
    found = stored_result(folder)
    if found is None:
        return None
    made_with, result = found
    if made_with != key or not set(names) <= set(result.outputs) <= {*names, ARTIFACTS}:
        return None
    try:
        same = all(fingerprints.of(path) == result.hashes[name] for name, path in result.outputs.items())
    except OSError:  # removed by hand
        return None
    return result if same else None


def stored_result(folder: Path) -> tuple[str, StepResult] | None:
    """Read the key and the result that a folder records; return None if it records none."""
    try:
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        outputs = {name: paths.home() / item["path"] for name, item in content["outputs"].items()}
        hashes = {name: str(item["hash"]) for name, item in content["outputs"].items()}
        result = StepResult(outputs, hashes, content["run_id"], float(content["seconds"]), content["job"])
        return content["key"], result
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_result(folder: Path, key: str, result: StepResult) -> None:
    """Mark a folder as complete; its outputs may be in another one."""
    home = paths.home()
    outputs = {
        name: {"path": path.relative_to(home).as_posix(), "hash": result.hashes[name]}
        for name, path in result.outputs.items()
    }
    content = {"key": key, "outputs": outputs, "run_id": result.run_id, "seconds": result.seconds, "job": result.job}
    atomic_write(folder / "result.json", json.dumps(content, indent=2) + "\n")


def point_to(folder: Path, key: str, result: StepResult) -> None:
    """Let the next step with a key reuse a result in another folder, unless another process is making one."""
    workplace = StepFolder(folder)
    if workplace.claim():
        try:
            write_result(folder, key, result)
        finally:
            workplace.release()


def write_owner(folder: Path, groups: list[dict[str, Any]]) -> None:
    """Record which processes belong to a folder, so that they can be ended if this process is killed."""
    atomic_write(folder / _OWNER, json.dumps(groups) + "\n")


def end_owners(folder: Path) -> bool:
    """End processes that belong to a folder and that an ended job left behind; return whether there were any."""
    try:
        groups = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return end_orphans(groups)


def forget_owner(folder: Path) -> None:
    """Forget the processes of a folder, which have ended."""
    (folder / _OWNER).unlink(missing_ok=True)


class StepFolder:
    """A folder that one step of one job writes into at a time.

    What a step keeps beside its outputs under a name that begins with a dot stays there for the next attempt with the same
    key, and so do the outputs in ``kept``, such as the checkpoints of a training. Everything else that an unfinished attempt
    left is removed.
    """

    def __init__(self, folder: Path, kept: frozenset[str] = frozenset()) -> None:
        self.folder = folder
        self._kept = kept
        self.outputs = folder / "outputs"
        self._lock: HeldLock | None = None

    def claim(self) -> bool:
        """Take the folder as it is; return False if another process has it."""
        self._lock = take(self.folder / ".lock")
        return self._lock is not None

    def clear(self) -> None:
        """Remove the content, and end the processes that still write there."""
        end_owners(self.folder)
        (self.folder / "result.json").unlink(missing_ok=True)
        self._clear()

    def prepare(self, targets: Mapping[str, OutputTarget]) -> dict[str, Path]:
        """Return the paths of the outputs; those that are folders exist, as on Azure ML."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        found = {name: self.outputs / name for name in targets}
        for name, target in targets.items():
            if target.type != "uri_file":
                found[name].mkdir(exist_ok=True)
        return found

    def finish(self) -> None:
        """Release a folder that is complete."""
        for item in self.outputs.glob(".*"):
            shutil.rmtree(item, ignore_errors=True)
        forget_owner(self.folder)
        self.release()

    def abandon(self) -> None:
        """Remove unfinished results and release the folder."""
        if self._lock is None:
            return
        try:
            self._clear()
            forget_owner(self.folder)
            if not self.outputs.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            self.release()

    def _clear(self) -> None:
        if not self.outputs.is_dir():
            return
        for item in self.outputs.iterdir():
            empty = item.is_dir() and not any(item.iterdir())
            if not item.name.startswith(".") and (item.name not in self._kept or empty):
                remove_path(item)
        if not any(self.outputs.iterdir()):
            self.outputs.rmdir()

    def release(self) -> None:
        """Release the folder as it is."""
        if self._lock is not None:
            self._lock.lock.release()
            self._lock = None
