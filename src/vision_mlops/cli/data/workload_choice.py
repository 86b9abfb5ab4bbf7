"""Chooses the workload where none is named: the one that data or a model is named after."""

from __future__ import annotations

from vision_mlops.cli.options import DEFAULT_WORKLOAD
from vision_mlops.cli.output import say, warn


def workload_named(reference: str | None, name: str) -> str:
    """Return the workload whose settings apply to data or a model: the named one, or the one that it belongs to.

    Args:
        reference: As given by ``--workload``.
        name: Name of the workload that the data was prepared for, or the model was trained for.
    """
    from vision_mlops.config.workload_files import list_workloads

    if reference is not None or name == DEFAULT_WORKLOAD:
        return reference or DEFAULT_WORKLOAD
    if name in list_workloads():
        say(f"the settings of the workload {name!r} apply")
        return name
    warn(f"unknown workload {name!r}: the settings of {DEFAULT_WORKLOAD} apply")
    return DEFAULT_WORKLOAD
