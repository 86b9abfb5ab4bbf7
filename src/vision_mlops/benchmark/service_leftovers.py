"""What contestants made in services, or left unfinished: listed, and removed by the contestants themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.benchmark.arena import reason_of
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder, WorkFolder
from vision_mlops.benchmark.code_version import in_a_service
from vision_mlops.benchmark.contestant import Contestant, Task
from vision_mlops.benchmark.contestants import find_contestant
from vision_mlops.config.workload_files import parse_workload


@dataclass(frozen=True, slots=True)
class Leftover:
    """Work that a contestant began, recorded as long as something of it may be in a service."""

    name: str
    begun: str
    fingerprint: str
    kind: type[Contestant]
    task: Task
    folder: WorkFolder

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{self.name}, begun {self.begun[:10]} on data {self.fingerprint[:12]}"

    @property
    def in_a_service(self) -> bool:
        """Whether a service was used that costs money."""
        return in_a_service(self.kind)


def leftovers(folder: BenchmarkFolder, names: list[str], say: Callable[[str], None]) -> list[Leftover]:
    """Return what is left of the named contestants; of all if none is named.

    Raises:
        MlopsError: a contestant cannot be found any more, or a folder is damaged.
    """
    found = []
    for work in folder.all_work():
        name = work.path.parent.name
        if names and name not in names:
            continue
        begun, manifest = work.begun()
        # As it was then: what the environment says now is about other runs.
        workload = parse_workload(begun["workload"], str(work.path))
        kind = find_contestant(begun["contestant"]).kind
        task = Task(workload, Path(begun["data"]), manifest, work.own, say)
        found.append(Leftover(name, begun["begun"], manifest.fingerprint, kind, task, work))
    return found


def remove_leftovers(found: list[Leftover], say: Callable[[str], None]) -> list[str]:
    """Have each contestant remove what it made, then remove its folder; return what could not be removed, and why."""
    failed = []
    for item in found:
        say(f"removing what belongs to {item.title}")
        try:
            with redirect_stdout(sys.stderr):
                item.kind(item.task).clean_up()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the class may be somebody's own
            failed.append(f"{item.title}: {reason_of(error, item.kind)}")
        else:
            item.folder.remove()
    return failed
