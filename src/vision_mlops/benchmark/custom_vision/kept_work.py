"""What a contestant knows of its work in Custom Vision after it was interrupted, or when it is to be removed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vision_mlops.core.errors import DataError
from vision_mlops.core.files import atomic_write

_NAME = "custom_vision.json"


@dataclass(frozen=True, slots=True)
class KeptWork:
    """Which project it is.

    Attributes:
        endpoint: Of the account that the project is in.
        project: Its id.
        name: Its name.
        iteration: Id of the model that was begun; empty where there is none.
    """

    endpoint: str
    project: str
    name: str
    iteration: str = ""

    def write(self, folder: Path) -> None:
        """Keep it in the contestant's folder."""
        atomic_write(folder / _NAME, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> KeptWork | None:
        """What was kept there; None where nothing was. Raises DataError where the file was damaged."""
        path = folder / _NAME
        if not path.is_file():
            return None
        try:
            return cls(**{name: str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged: {error}", "remove it; the project is found again by its name"
            ) from error
