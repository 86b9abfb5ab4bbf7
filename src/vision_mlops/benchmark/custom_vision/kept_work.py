"""The record of a contestant about its work in Custom Vision, to continue or remove it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write

_NAME = "custom_vision.json"


class KeptWork(BaseModel):
    """The record of a project.

    Attributes:
        endpoint: Endpoint of the account with the project.
        project: Id of the project.
        name: Name of the project.
        iteration: Id of the model whose training was started; empty if there is none.
        outdated: Ids of models that must not be used because a new training was requested.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    project: str
    name: str
    iteration: str = ""
    outdated: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Write it to the contestant's folder."""
        atomic_write(self.path(folder), self.model_dump_json(indent=2) + "\n")

    @staticmethod
    def path(folder: Path) -> Path:
        """The file in a contestant's folder."""
        return folder / _NAME

    @classmethod
    def read(cls, folder: Path) -> KeptWork | None:
        """The record in the folder; None if there is none. Raises DataError if the file is damaged."""
        path = cls.path(folder)
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataError(
                f"{path} is damaged: {error.errors()[0]['msg']}", "remove it; the project is found again by its name"
            ) from error
