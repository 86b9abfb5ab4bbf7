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


class StepSettings:
    """What a step runs, by the fields of :class:`~vision_mlops.jobs.definitions.plan.nodes.Node` that say so.

    Args:
        definition: File that the step stands in.
        step: Model of the step, or of a job that is one step.
        component: What the step refers to.
        text: Puts the values of the surrounding pipeline into a text of the step.
        settled: Puts in the values of the step's own inputs as well.
    """

    def __init__(
        self,
        definition: Definition,
        step: Any,
        component: Definition | None,
        text: Callable[[str], str],
        settled: Callable[[str], str],
    ) -> None:
        self._definition = definition
        self._step = step
        self._file = (component or definition).file
        self._source: Any = component.model if component else step
        self._task = getattr(self._source, "task", None)
        self._text = text
        self._settled = settled

    def fields(self) -> dict[str, Any]:
        """The fields. Raises PipelineError where a limit or count is bound to what is no whole number."""
        return {
            **self._what_runs(),
            **self._environment(),
            **self._machines(),
            "variables": self._variables(),
            "timeout": self._whole(getattr(self._chosen("limits"), "timeout", None)),
            "parallel": self._parallel() if self._task else None,
            "deterministic": getattr(self._source, "is_deterministic", True),
            "tags": {key: str(value) for key, value in (getattr(self._source, "tags", None) or {}).items()},
            "unused": {**unused_of(self._source), **unused_of(self._step)},
        }

    def _chosen(self, name: str) -> Any:
        """The step's own setting, else that of the component."""
        own = getattr(self._step, name, None)
        return own if own is not None else getattr(self._source, name, None)

    def _what_runs(self) -> dict[str, Any]:
        command = (self._task.program_arguments or "") if self._task else getattr(self._source, "command", "")
        beside = getattr(self._source, "additional_includes", None) or ()
        return {
            "command": command,
            "file": self._file,
            "code": _code(self._file, getattr(self._task or self._source, "code", None)),
            "includes": tuple(self._file.parent / item for item in beside),
        }

    def _environment(self) -> dict[str, Any]:
        own = getattr(self._step, "environment", None) is not None
        return {
            "environment_file": self._definition.file if own else self._file,
            "environment": _plain(self._chosen("environment") or getattr(self._task, "environment", None) or ""),
        }

    def _machines(self) -> dict[str, Any]:
        distribution = self._chosen("distribution")
        nodes = getattr(self._chosen("resources"), "instance_count", None)
        return {
            "distribution": distribution.type.lower() if distribution else None,
            "nodes": (self._whole(nodes) or 1) if distribution else 1,
            "processes": self._whole(getattr(distribution, "process_count_per_instance", None)) or 1,
        }

    def _variables(self) -> dict[str, str]:
        both = (getattr(model, "environment_variables", None) or {} for model in (self._source, self._step))
        return {key: self._text(str(value)) for variables in both for key, value in variables.items()}

    def _parallel(self) -> Parallel:
        source, chosen = self._source, self._chosen
        if source.input_data is None:
            raise PipelineError(
                "a parallel step does not say which input is split into mini-batches",
                "add `input_data: ${{inputs.NAME}}`",
            )
        bound, append = sole(source.input_data), sole(source.task.append_row_to)
        return Parallel(
            task=source.task,
            input=bound.parts[-1] if bound else source.input_data,
            mini_batch_size=chosen("mini_batch_size"),
            partition_keys=tuple(source.partition_keys or ()),
            max_concurrency=self._whole(chosen("max_concurrency_per_instance")),
            error_threshold=chosen("error_threshold"),
            mini_batch_error_threshold=chosen("mini_batch_error_threshold"),
            retry=chosen("retry_settings"),
            logging_level=chosen("logging_level"),
            append_to=append.parts[-1] if append else None,
        )

    def _whole(self, value: Any) -> int | None:
        if value is None or isinstance(value, int):
            return value
        resolved = self._settled(str(value)).strip()
        if resolved and not (resolved.isdecimal() and int(resolved)):
            raise PipelineError(f"{value} is {resolved!r}, not a whole number above 0", "give the input such a number")
        return int(resolved) if resolved else None


def _code(file: Path, code: str | None) -> Path | None:
    """The local code folder or file; lint has made sure that it exists. Remote code is refused by the runner."""
    if not code:
        return None
    path = file.parent / code.removeprefix("file:")
    return path if path.exists() else Path(code)


def _plain(value: Any) -> str:
    if isinstance(value, Environment):
        return value.model_dump_json(exclude_none=True, by_alias=True)
    return value.model_dump_json(exclude_none=True) if hasattr(value, "model_dump_json") else str(value)
