"""What a project takes from the installed package: pinned requirements for `make setup`, and components of its pipelines.

``python -m vision_mlops.project.placed_files FOLDER`` runs before any other package is there, so it imports the standard
library alone.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from vision_mlops.core.paths import repository
from vision_mlops.project.shipped_files import REQUIREMENTS

COMPONENTS = Path("pipelines", "components")
_SHIPPED_COMPONENTS = Path(__file__).parents[1] / "jobs" / COMPONENTS


def place_requirements(target: Path) -> None:
    """Copy the pins of the package to a folder, whose files of the same name are replaced."""
    shutil.copytree(repository() / REQUIREMENTS, target, dirs_exist_ok=True)


def place_components(project: Path) -> None:
    """Copy the components that ship into a project that has pipelines."""
    if (project / COMPONENTS.parent).is_dir():
        shutil.rmtree(project / COMPONENTS, ignore_errors=True)
        shutil.copytree(_SHIPPED_COMPONENTS, project / COMPONENTS)


if __name__ == "__main__":
    place_requirements(Path(sys.argv[1]))
    place_components(Path())
