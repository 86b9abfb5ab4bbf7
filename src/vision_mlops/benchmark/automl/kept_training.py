"""What the contestant knows of its work in the workspace after it was interrupted, or when it is to be removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write

_NAME = "automl.json"


@dataclass
class KeptTraining:
    """What was made, and how far it is.

    Attributes:
        workspace: Resource id of the workspace that it is in.
        uploads: Folder in a datastore that images and tables were uploaded to; empty where nothing was.
        job: The job that trains, or is to; empty where none was begun, or the last one has failed.
        jobs: All jobs that were begun.
        machine: Size of the machines that train.
        seconds: How long the training took; None before its end, and where the service does not say.
    """

    workspace: str
    uploads: str = ""
    job: str = ""
    jobs: list[str] = field(default_factory=list)
    machine: str = ""
    seconds: float | None = None

    def write(self, folder: Path) -> None:
        """Keep it in the contestant's folder."""
        atomic_write(folder / _NAME, _KEPT.dump_json(self, indent=2) + b"\n")

    @classmethod
    def read(cls, folder: Path) -> KeptTraining | None:
        """What was kept there; None where nothing was.

        Raises:
            DataError: the file was damaged.
        """
        path = folder / _NAME
        if not path.is_file():
            return None
        try:
            return _KEPT.validate_json(path.read_bytes())
        except ValidationError as error:
            hint = "look for its jobs in Azure ML studio, and remove the file"
            raise DataError(f"{path} is damaged: {error.errors()[0]['msg']}", hint) from error


_KEPT: TypeAdapter[KeptTraining] = TypeAdapter(KeptTraining)
