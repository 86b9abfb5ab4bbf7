"""What a step runs: the settings of its component, and those of the step itself, which take precedence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.jobs.definitions.definition import Definition
from vision_mlops.jobs.definitions.expressions import sole
from vision_mlops.jobs.definitions.models.base_model import Environment
from vision_mlops.jobs.definitions.plan.nodes import Parallel

# Accepted and recorded, but not used by a run on this machine.
_UNUSED = ("compute", "identity", "services", "queue_settings", "resources", "environment", "properties")


def unused_of(model: Any) -> dict[str, str]:
    """Return the settings of a model that only matter on Azure ML, as text by key."""
    return {key: _plain(value) for key in _UNUSED if (value := getattr(model, key, None)) is not None}


def step_settings(
    definition: Definition,
    step: Any,
    component: Definition | None,
    text: Callable[[str], str],
    settled: Callable[[str], str],
) -> dict[str, Any]:
    """Return what a step runs, by the fields of :class:`~vision_mlops.jobs.definitions.plan.nodes.Node` that say so.

    Args:
        definition: The file that contains the step.
        step: Model of the step, or of a job that is one step.
        component: What the step refers to.
        text: Inserts the values of the surrounding pipeline into a text of the step.
        settled: Inserts the values of the step's own inputs, too.

    Raises:
        PipelineError: a limit or count is bound to what is not a whole number, or a parallel step has no ``input_data``.
    """
    file = (component or definition).file
    source: Any = component.model if component else step
    task = getattr(source, "task", None)

    def chosen(name: str) -> Any:
        """Return the step's own setting, or else that of the component."""
        own = getattr(step, name, None)
        return own if own is not None else getattr(source, name, None)

    def whole(value: Any) -> int | None:
        if value is None or isinstance(value, int):
            return value
        resolved = settled(str(value)).strip()
        if resolved and not (resolved.isdecimal() and int(resolved)):
            message = f"{value} is {resolved!r}, not a whole number of at least 1"
            raise PipelineError(message, "give the input such a number")
        return int(resolved) if resolved else None

    distribution = chosen("distribution")
    nodes = getattr(chosen("resources"), "instance_count", None) if distribution else None
    variables = [getattr(model, "environment_variables", None) or {} for model in (source, step)]
    return {
        "command": (task.program_arguments or "") if task else getattr(source, "command", ""),
        "file": file,
        "code": _code(file, getattr(task or source, "code", None)),
        "includes": tuple(file.parent / item for item in getattr(source, "additional_includes", None) or ()),
        "environment": _plain(chosen("environment") or getattr(task, "environment", None) or ""),
        "environment_file": file if getattr(step, "environment", None) is None else definition.file,
        "variables": {key: text(str(value)) for given in variables for key, value in given.items()},
        "distribution": distribution.type.lower() if distribution else None,
        "nodes": whole(nodes) or 1,
        "processes": whole(getattr(distribution, "process_count_per_instance", None)) or 1,
        "timeout": whole(getattr(chosen("limits"), "timeout", None)),
        "parallel": _parallel(source, chosen, whole) if task else None,
        "deterministic": getattr(source, "is_deterministic", True),
        "tags": {key: str(value) for key, value in (getattr(source, "tags", None) or {}).items()},
        "unused": {**unused_of(source), **unused_of(step)},
    }


def _parallel(source: Any, chosen: Callable[[str], Any], whole: Callable[[Any], int | None]) -> Parallel:
    if source.input_data is None:
        message = "no input_data says which input of a parallel step is split into mini-batches"
        raise PipelineError(message, "add `input_data: ${{inputs.NAME}}`")
    bound, append = sole(source.input_data), sole(source.task.append_row_to)
    return Parallel(
        task=source.task,
        input=bound.parts[-1] if bound else source.input_data,
        mini_batch_size=chosen("mini_batch_size"),
        partition_keys=tuple(source.partition_keys or ()),
        max_concurrency=whole(chosen("max_concurrency_per_instance")),
        error_threshold=chosen("error_threshold"),
        mini_batch_error_threshold=chosen("mini_batch_error_threshold"),
        retry=chosen("retry_settings"),
        logging_level=chosen("logging_level"),
        append_to=append.parts[-1] if append else None,
    )


def _code(file: Path, code: str | None) -> Path | None:
    """Return the local code folder or file, which the linter has found to exist. The runner refuses remote code."""
    if not code:
        return None
    path = file.parent / code.removeprefix("file:")
    return path if path.exists() else Path(code)


def _plain(value: Any) -> str:
    if isinstance(value, Environment):
        return value.model_dump_json(exclude_none=True, by_alias=True)
    return value.model_dump_json(exclude_none=True) if hasattr(value, "model_dump_json") else str(value)
