"""The cache key of a step: its definition, code, parameters and the content of its inputs, but not where they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions import tags
from vision_mlops.jobs.definitions.expressions import render
from vision_mlops.jobs.definitions.plan.nodes import DataInput, Node, StepOutput, Value
from vision_mlops.jobs.local.state.job_context import Context, Dependencies
from vision_mlops.jobs.local.steps.code_snapshots import code_fingerprint
from vision_mlops.jobs.local.steps.step_results import cache_key

_SWEEP = {"search_space", "sampling_algorithm", "objective", "limits", "early_termination"}


def step_key(context: Context, node: Node, inputs: Mapping[str, str]) -> str:
    """Compute the key of all that the outputs of a step depend on.

    Args:
        context: What the steps of the job share.
        node: The step.
        inputs: Text of each input, as its command gets it.

    Raises:
        PipelineError: an input cannot be read, or is not what a tag of the step says.
    """
    contents = {name: _content(context, node, name, text) for name, text in inputs.items()}
    contents |= sections(context.dependencies, node, inputs)
    searched = {name: f"<{name}>" for name in (node.sweep.search_space if node.sweep else {})}
    outputs = {name: f"<{name}>" for name in node.outputs}
    command = node.describe({**contents, **searched})
    software = context.dependencies.software
    return cache_key(
        {
            "type": node.type,
            "command": command,
            "package": software(node, inputs) if software is not None else "",
            "code": code_fingerprint(node, context.fingerprints),
            "inputs": {name: contents[name] for name in contents if not node.is_value(name)},
            "outputs": {name: target.type for name, target in node.outputs.items()},
            "variables": {name: fill(text, contents, outputs) for name, text in node.variables.items()},
            "environment": node.environment,
            "packages": context.environments.of(node).content,
            "distribution": [node.distribution, node.nodes, node.processes],
            "parallel": [repr(node.parallel), contents.get(node.parallel.input)] if node.parallel else None,
            "sweep": node.sweep.model_dump(mode="json", include=_SWEEP) if node.sweep else None,
        }
    )


def key_now(context: Context, node: Node, inputs: Mapping[str, str], key: str) -> str:
    """Include the present state outside of the job in the key of a step, if a tag says that the step depends on it."""
    kind, outside_state = node.tags.get(tags.STATE), context.dependencies.outside_state
    if kind is None or outside_state is None:
        return key
    return cache_key({"key": key, "state": outside_state(kind, node, inputs)})


def sections(dependencies: Dependencies, node: Node, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the content of the sections that a step reads, by each input that one of its tags narrows.

    Args:
        dependencies: What reads the sections.
        node: The step.
        inputs: Text of its inputs; an input that a tag names and that has no value counts as empty.

    Raises:
        PipelineError: an input cannot be read, or a tag names an unknown section.
    """
    read, found = dependencies.sections, {}
    for name, wanted in tags.sections_read(node.tags).items():
        content = read(inputs.get(name, ""), wanted, node.code) if read is not None else None
        if content is not None:
            found[name] = content
    return found


def fill(text: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """Insert inputs and outputs into a text, such as an environment variable."""
    known: dict[tuple[str, ...], str | None] = {("inputs", key): item for key, item in inputs.items()}
    known |= {("outputs", key): item for key, item in outputs.items()}
    return render(text, known)


def _content(context: Context, node: Node, name: str, text: str) -> str:
    source = node.inputs[name]
    if isinstance(source, Value) or (isinstance(source, DataInput) and source.unread):
        return text
    if isinstance(source, StepOutput):
        known = context.hashes.get(f"{source.step}:{source.output}")
        if known:
            return f"<{known}>"
    path = Path(text)
    try:
        # A command sees the name of a file, and may depend on its suffix; the names of folders do not matter.
        return f"<{context.fingerprints.of(path)}>" + (path.name if path.is_file() else "")
    except OSError as error:
        raise PipelineError(f"input {name!r} cannot be read: {error}", "check its permissions") from error
