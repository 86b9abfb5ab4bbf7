"""Keeps default artifacts, which a step writes to ``./outputs`` and ``./logs`` without declaring them, as Azure ML does."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vision_mlops.jobs.definitions.plan.nodes import JobPlan, OutputTarget, StepOutput
from vision_mlops.jobs.definitions.step_graph import ARTIFACTS

_FOLDERS = ("outputs", "logs")


def make_artifact_folders(work: Path) -> None:
    """Create the folders in the working copy of a step, unless its code has a file of that name."""
    for name in _FOLDERS:
        if not (work / name).exists():
            (work / name).mkdir()


def with_taken_artifacts(plan: JobPlan) -> JobPlan:
    """Add an output ``artifacts`` to each step whose default artifacts another step reads."""
    taken = {item.step for node in plan.nodes for item in node.inputs.values()
             if isinstance(item, StepOutput) and item.output == ARTIFACTS}  # fmt: skip
    nodes = (
        replace(node, outputs={**node.outputs, ARTIFACTS: OutputTarget("uri_folder")})
        if node.step in taken and ARTIFACTS not in node.outputs
        else node
        for node in plan.nodes
    )
    return replace(plan, nodes=tuple(nodes))


def takes_artifacts(outputs: Mapping[str, OutputTarget]) -> bool:
    """Return whether default artifacts can be an output of a step: not if it declares a file of that name."""
    return ARTIFACTS not in outputs or outputs[ARTIFACTS].type != "uri_file"


def keep_artifacts(work: Path, target: Path) -> bool:
    """Move what a step left in these folders to a folder of its results; they are empty afterwards.

    Args:
        work: Working copy of the step, which has succeeded.
        target: Folder that gets ``outputs`` and ``logs``, unless they are empty. What the step itself has written there
            stays.

    Returns:
        Whether ``target`` has any content.
    """
    for name in _FOLDERS:
        source = work / name
        if source.is_symlink() or not source.is_dir() or not any(source.iterdir()):
            continue
        target.mkdir(exist_ok=True)
        if (target / name).exists():
            shutil.copytree(source, target / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(source)
        else:
            shutil.move(source, target / name)
        source.mkdir()
    return target.is_dir() and any(target.iterdir())
