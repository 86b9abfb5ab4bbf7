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
from vision_mlops.benchmark.contestant import Task
from vision_mlops.benchmark.contestants import find_contestant
from vision_mlops.config.workload_files import parse_workload


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a contestant began: kept as long as something of it may be in a service."""

    name: str
    begun: str
    fingerprint: str
    in_a_service: bool
    task: Task
    reference: str
    folder: WorkFolder

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{self.name}, begun {self.begun[:10]} on data {self.fingerprint[:12]}"


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
        costs = in_a_service(kind)
        found.append(Leftover(name, begun["begun"], manifest.fingerprint, costs, task, begun["contestant"], work))
    return found


def remove_leftovers(found: list[Leftover], say: Callable[[str], None]) -> list[str]:
    """Have each contestant remove what it made, then remove its folder; return what could not be removed, and why."""
    failed = []
    for item in found:
        say(f"removing what belongs to {item.title}")
        kind = find_contestant(item.reference).kind
        try:
            with redirect_stdout(sys.stderr):
                kind(item.task).clean_up()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the class may be somebody's own
            failed.append(f"{item.title}: {reason_of(error, kind)}")
        else:
            item.folder.remove()
    return failed
