"""What a contestant knows of its work in Custom Vision after it was interrupted, or when it is to be removed."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write

_NAME = "custom_vision.json"


class KeptWork(BaseModel):
    """Which project it is.

    Attributes:
        endpoint: Of the account that the project is in.
        project: Its id.
        name: Its name.
        iteration: Id of the model that was begun; empty where there is none.
        outdated: Ids of the models that were there when one was to be trained anew: none of them is used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    project: str
    name: str
    iteration: str = ""
    outdated: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Keep it in the contestant's folder."""
        atomic_write(self.path(folder), self.model_dump_json(indent=2) + "\n")

    @staticmethod
    def path(folder: Path) -> Path:
        """The file in a contestant's folder."""
        return folder / _NAME

    @classmethod
    def read(cls, folder: Path) -> KeptWork | None:
        """What was kept there; None where nothing was. Raises DataError where the file was damaged."""
        path = cls.path(folder)
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataError(
                f"{path} is damaged: {error.errors()[0]['msg']}", "remove it; the project is found again by its name"
            ) from error
