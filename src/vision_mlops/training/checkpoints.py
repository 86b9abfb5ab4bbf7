"""The working folder of a training: its checkpoints, and what it was started with, so that no other training resumes it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from vision_mlops.config.own_code import references, source_hashes
from vision_mlops.config.workload import Workload
from vision_mlops.core.errors import TrainingError
from vision_mlops.core.files import atomic_write
from vision_mlops.data.manifest import Manifest

_SETTINGS = "settings.json"
_RUN = "run.json"


class TrainingFolder:
    """What a training keeps until the bundle is whole; removed then.

    It is the folder ``.OUT.training`` beside the bundle, or ``OUT.training`` in a folder that outlives the machine, such as
    a mounted output of a job on a spot node.

    Args:
        out: Folder of the bundle.
        workload: The workload that is trained.
        manifest: Manifest of the data that it is trained on.
        kept_in: A folder that outlives the machine; None for the place beside the bundle.
    """

    def __init__(self, out: Path, workload: Workload, manifest: Manifest, kept_in: Path | None = None) -> None:
        beside = out.parent / f".{out.name}.training"
        self.folder = beside if kept_in is None else kept_in.absolute() / f"{out.name}.training"
        self.checkpoints = self.folder / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self._settings: dict[str, Any] = {
            "data": manifest.fingerprint,
            "model": workload.model.model_dump(),
            "training": workload.training.model_dump(),
            "own_code": source_hashes(references(workload, ("model", "training"))),
        }

    @property
    def interrupted(self) -> bool:
        """Whether a training stopped here after at least one epoch, whatever its settings.

        A checkpoint that was cut off while it was written, as can happen on a mounted folder, does not count.
        """
        return self.last.is_file() and zipfile.is_zipfile(self.last)

    @property
    def resumable(self) -> bool:
        """Whether it stopped with the same data and settings, so that it can go on."""
        return self.interrupted and not self._differences()

    def begin(self) -> None:
        """Start over: drop what an earlier training left, and record the settings."""
        self.drop()
        atomic_write(self.folder / _SETTINGS, json.dumps(self._settings, indent=2) + "\n")

    def check_resumable(self) -> None:
        """Raise TrainingError if there is nothing to resume, or it was started with other settings."""
        if not self.interrupted:
            raise TrainingError(f"{self.folder} contains no checkpoint to resume", "run without --resume")
        if differences := self._differences():
            raise TrainingError(
                f"the interrupted training in {self.folder} was started with other values of {', '.join(differences)}",
                "give the same data and settings to resume it, or --overwrite to start over",
            )

    def drop(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def run_id(self) -> str:
        """MLflow run of the training; empty if none was opened."""
        try:
            return str(json.loads((self.folder / _RUN).read_text(encoding="utf-8"))["run_id"])
        except (OSError, ValueError, KeyError):
            return ""

    @run_id.setter
    def run_id(self, value: str) -> None:
        atomic_write(self.folder / _RUN, json.dumps({"run_id": value}) + "\n")

    def _differences(self) -> list[str]:
        """Return the dotted keys whose values differ from those that the training was started with."""
        try:
            begun = json.loads((self.folder / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            begun = {}
        ours = json.loads(json.dumps(self._settings))
        found = ["data"] if begun.get("data") != ours["data"] else []
        found += ["own code"] if begun.get("own_code", {}) != ours["own_code"] else []
        for section in ("model", "training"):
            old = begun.get(section) or {}
            found += [f"{section}.{key}" for key, value in ours[section].items() if old.get(key) != value]
        return found
