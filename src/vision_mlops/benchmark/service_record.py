"""The record of a contestant's work in a service, to continue it after an interruption, or to remove it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vision_mlops.core.errors import DataError, problem_of_file
from vision_mlops.core.files import atomic_write


class ServiceRecord(BaseModel):
    """A JSON file in the folder of a contestant; each service has fields of its own."""

    model_config = ConfigDict(extra="forbid")
    file_name: ClassVar[str]
    damage_hint: ClassVar[str]
    """What to do if the file is damaged."""

    def write(self, folder: Path) -> None:
        """Write it to the folder of the contestant."""
        atomic_write(self.path(folder), self.model_dump_json(indent=2) + "\n")

    @classmethod
    def path(cls, folder: Path) -> Path:
        """Return the file in the folder of a contestant."""
        return folder / cls.file_name

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it; None if there is none. Raises DataError if the file is damaged."""
        path = cls.path(folder)
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataError(f"{path} is damaged: {problem_of_file(error)}", cls.damage_hint) from error
