"""Which parts of a workload each command reads, so that a step is run again only when a part that it reads has changed."""

from __future__ import annotations

from collections.abc import Sequence

from vision_mlops.config.workload import Workload

READS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("data", "prepare"): ("name", "data"),
    ("train",): ("name", "title", "data", "model", "training"),
    ("gate",): ("gate",),
}


def sections_read(command: Sequence[str]) -> tuple[str, ...]:
    """Keys of the workload that a command reads; all of them where it is not listed.

    Args:
        command: Words after ``mlops``; those after the command's own name are ignored.
    """
    words = tuple(command)
    for name, sections in READS.items():
        if words[: len(name)] == name:
            return sections
    return tuple(Workload.model_fields)
