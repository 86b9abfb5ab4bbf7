"""Whose settings count where no workload is named: those of the workload that data or a model has its name from."""

from __future__ import annotations

from vision_mlops.cli.options import DEFAULT_WORKLOAD
from vision_mlops.cli.output import say, warn


def workload_named(reference: str | None, name: str) -> str:
    """The workload whose settings count for data or a model that has the name of one: that one, unless another is named.

    Args:
        reference: As given by ``--workload``.
        name: That of the workload that the data was prepared for, or the model was trained for.
    """
    from vision_mlops.config.workload_files import list_workloads

    if reference is not None or name == DEFAULT_WORKLOAD:
        return reference or DEFAULT_WORKLOAD
    if name in list_workloads():
        say(f"the settings of the workload {name!r} count")
        return name
    warn(f"there is no workload {name!r} here: the settings of {DEFAULT_WORKLOAD} count")
    return DEFAULT_WORKLOAD
