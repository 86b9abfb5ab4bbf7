"""All checks of this machine and of the project in the working folder."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from vision_mlops.doctor.check_results import Diagnosis
from vision_mlops.doctor.machine_checks import check_machine
from vision_mlops.doctor.package_checks import check_packages
from vision_mlops.doctor.project_uses import check_retirements
from vision_mlops.doctor.tool_checks import check_tools


def check_here(project: Path, today: date) -> Iterator[Diagnosis]:
    """Yield each check as it ends; all of them take less than two seconds, and use no network.

    Args:
        project: Whose files are looked at.
        today: The date that retirements are compared with.
    """
    yield from check_machine()
    yield from check_packages()
    yield from check_tools()
    yield from check_retirements(project, today)
