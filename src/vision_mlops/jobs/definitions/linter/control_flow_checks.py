"""Checks loops and branches: steps that decide whether and how often others run, and that only Azure runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.expressions import sole
from vision_mlops.jobs.definitions.models.azure_only import BLOCKS, SDK_SWITCH, in_words
from vision_mlops.jobs.definitions.yaml_source import Mapping, Sequence


def check_blocks(definition: Definition, name: str) -> None:
    """Check that the steps which a loop or branch names exist.

    Args:
        definition: The pipeline.
        name: Name of the step that is the loop or branch.
    """
    jobs, base = definition.node["jobs"], ("jobs", name)
    node, words = jobs[name], in_words(str(jobs[name]["type"]), "step", None)
    message = f"step {name!r}: Azure ML's SDK accepts {words} only as a private preview"
    hint = f"set {SDK_SWITCH}=true in the environment that submits the pipeline"
    definition.report("private-preview", message, hint, *base, "type")
    for key in BLOCKS:
        for text in _texts(node.get(key)):
            step = _step_of(text)
            if step is None:
                message = f"step {name!r}: {key} is {str(text)[:60]!r}, which does not name a step"
                definition.report("binding", message, "write ${{parent.jobs.STEP}}", *base, key)
            elif step not in jobs or step == name:
                others = [other for other in jobs if other != name]
                message = f"step {name!r}: {key} names {step!r}, but the pipeline has no other step of that name"
                definition.report("unknown-job", message, nearest(step, others), *base, key)


def filled_by_loops(jobs: Mapping) -> dict[str, set[str] | None]:
    """Return the inputs that the items of loops give to the steps in them, by step; None if the items are unknown."""
    found: dict[str, set[str] | None] = {}
    for node in jobs.values():
        if not isinstance(node, Mapping) or node.get("type") != "parallel_for":
            continue
        step = _step_of(node.get("body"))
        if step is not None:
            found[step] = _keys(node.get("items"))
    return found


def _keys(items: Any) -> set[str] | None:
    if isinstance(items, str):
        try:
            items = json.loads(items)
        except ValueError:
            return None  # a binding
    rows = list(items.values()) if isinstance(items, dict) else items if isinstance(items, list) else []
    return {str(key) for row in rows if isinstance(row, dict) for key in row}


def _texts(value: Any) -> Iterator[Any]:
    if value is not None:
        yield from value if isinstance(value, Sequence) else [value]


def _step_of(text: Any) -> str | None:
    """Return the step that ``${{parent.jobs.STEP}}`` names; None for anything else."""
    reference = sole(text)
    if reference is None or reference.parts[:2] != ("parent", "jobs") or len(reference.parts) != 3:
        return None
    return reference.parts[2]
