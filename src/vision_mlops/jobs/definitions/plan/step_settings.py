"""What a step runs, taken from where the definition says it: the component, or the step with its own changes to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.expressions import sole
from vision_mlops.jobs.definitions.models.base_model import Environment
from vision_mlops.jobs.definitions.plan.nodes import Parallel

# Accepted and written down; a run on this machine has no use for them.
_UNUSED = ("compute", "identity", "services", "queue_settings", "resources", "environment", "properties")


def unused_of(model: Any) -> dict[str, str]:
    """What a model says that only matters on Azure ML, as text by key."""
    found = {}
    for key in _UNUSED:
        value = getattr(model, key, None)
        if value is not None:
            found[key] = _plain(value)
    return found


def runs_of(
    definition: Definition,
    step: Any,
    component: Definition | None,
    text: Callable[[str], str] | None = None,
    settled: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Fields of a :class:`~vision_mlops.jobs.definitions.plan.nodes.Node` that say what is run.

    Args:
        definition: File that the step stands in.
        step: Model of the step, or of a job that is one step.
        component: What the step refers to.
        text: Puts the values of the surrounding pipeline into a text of the step.
        settled: Puts in the values of the step's own inputs as well.

    Raises:
        PipelineError: a limit or number of processes is bound to what is no whole number.
    """
    owner = component or definition
    source: Any = component.model if component else step
    text = text or (lambda value: value)

    def chosen(name: str) -> Any:
        own = getattr(step, name, None)
        return own if own is not None else getattr(source, name, None)

    task = getattr(source, "task", None)
    code = getattr(task or source, "code", None)
    distribution, limits = chosen("distribution"), chosen("limits")
    variables = {**(getattr(source, "environment_variables", None) or {}), **(step_variables(step) or {})}
    timeout = getattr(limits, "timeout", None)
    return {
        "command": (task.program_arguments or "") if task else getattr(source, "command", ""),
        "file": owner.file,
        "code": _code(owner.file, code),
        "includes": tuple(owner.file.parent / item for item in getattr(source, "additional_includes", None) or ()),
        "environment_file": definition.file if getattr(step, "environment", None) is not None else owner.file,
        "environment": _plain(chosen("environment") or getattr(task, "environment", None) or ""),
        "variables": {key: text(str(value)) for key, value in variables.items()},
        "distribution": distribution.type.lower() if distribution else None,
        "nodes": (_whole(getattr(chosen("resources"), "instance_count", None), settled) or 1) if distribution else 1,
        "processes": _whole(getattr(distribution, "process_count_per_instance", None), settled) or 1,
        "timeout": _whole(timeout, settled),
        "parallel": _parallel(source, chosen, settled) if task else None,
        "deterministic": getattr(source, "is_deterministic", True),
        "tags": {key: str(value) for key, value in (getattr(source, "tags", None) or {}).items()},
        "unused": {**unused_of(source), **unused_of(step)},
    }


def step_variables(step: Any) -> dict[str, Any] | None:
    """Environment variables that the step itself sets."""
    return getattr(step, "environment_variables", None)


def _parallel(source: Any, chosen: Callable[[str], Any], settled: Callable[[str], str]) -> Parallel:
    if source.input_data is None:
        raise PipelineError(
            "a parallel step does not say which input is split into mini-batches", "add `input_data: ${{inputs.NAME}}`"
        )
    bound, append = sole(source.input_data), sole(source.task.append_row_to)
    return Parallel(
        task=source.task,
        input=bound.parts[-1] if bound else source.input_data,
        mini_batch_size=chosen("mini_batch_size"),
        partition_keys=tuple(source.partition_keys or ()),
        max_concurrency=_whole(chosen("max_concurrency_per_instance"), settled),
        error_threshold=chosen("error_threshold"),
        mini_batch_error_threshold=chosen("mini_batch_error_threshold"),
        retry=chosen("retry_settings"),
        logging_level=chosen("logging_level"),
        append_to=append.parts[-1] if append else None,
    )


def _code(file: Path, code: str | None) -> Path | None:
    """The local code folder or file; lint has made sure that it exists. Remote code is refused by the runner."""
    if not code:
        return None
    path = file.parent / code.removeprefix("file:")
    return path if path.exists() else Path(code)


def _whole(value: Any, text: Callable[[str], str]) -> int | None:
    if value is None or isinstance(value, int):
        return value
    resolved = text(str(value)).strip()
    if resolved and not (resolved.isdecimal() and int(resolved)):
        raise PipelineError(f"{value} is {resolved!r}, not a whole number above 0", "give the input such a number")
    return int(resolved) if resolved else None


def _plain(value: Any) -> str:
    if isinstance(value, Environment):
        return value.model_dump_json(exclude_none=True, by_alias=True)
    return value.model_dump_json(exclude_none=True) if hasattr(value, "model_dump_json") else str(value)
