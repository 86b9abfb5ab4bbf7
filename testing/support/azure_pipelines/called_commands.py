"""What the steps of a pipeline call, in order: commands of ``mlops``, targets of the Makefile, and tasks."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from testing.support.azure_pipelines.expression import MACRO
from testing.support.azure_pipelines.pipeline_model import Job, Pipeline, Stage, Step, Variables

SHELL = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
"""``$NAME`` and ``${NAME}``; ``$(name)`` is a macro of the pipeline, not of the shell."""
_WORD = re.compile(r"[a-z][a-z-]*")
_ALONE = ("deploy",)
"""Commands of ``mlops`` that belong to no group."""


@dataclass(frozen=True)
class Called:
    """A step in its place.

    Attributes:
        names: Of what it calls: ``mlops models verdict``, ``make images``; for other tasks the task.
        words: What is given to it, with the values of the variables that the pipeline defines.
        inputs: The same of the task's inputs.
    """

    pipeline: Pipeline
    stage: Stage
    job: Job
    step: Step
    names: tuple[str, ...]
    words: tuple[str, ...]
    inputs: Mapping[str, str]

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"{self.pipeline.path}: {self.stage.name}.{self.job.name}: {self.step.title:.60}"

    @property
    def assigned(self) -> dict[str, str]:
        """What ``make`` is given as NAME=VALUE."""
        pairs = (word.partition("=") for word in self.words if "=" in word and not word.startswith("-"))
        return {name: value for name, _, value in pairs}

    @property
    def subject(self) -> str:
        """The first word that is given to the command."""
        return self.words[0] if self.words else ""

    def option(self, name: str) -> str | None:
        """The value of an option; None where it is not given."""
        place = self.words.index(name) + 1 if name in self.words else 0
        return self.words[place] if 0 < place < len(self.words) else None

    def values(self) -> list[str]:
        """All words, those that are assigned without their names, and all inputs that are no scripts."""
        inputs = [value for name, value in self.inputs.items() if name not in ("script", "inlineScript")]
        return [*self.assigned.values(), *(word for word in self.words if "=" not in word), *inputs]

    def comes_before(self, other: Called) -> bool:
        """Whether its stage is done when the other's begins, or it is an earlier step of the same job."""
        if self.job is other.job:
            steps = [id(step) for step in self.job.steps()]
            return steps.index(id(self.step)) < steps.index(id(other.step))
        return self.stage.name in stages_before(self.pipeline, other.stage.name)


def called(pipeline: Pipeline) -> list[Called]:
    """All steps, in order."""
    found = []
    for stage, job, step in pipeline.steps():
        values = _defined(pipeline.variables, stage.variables, job.variables)
        names, rest = _names(step)
        environment = {name: _filled(value, values) for name, value in step.env.items()}
        words = tuple(_shell_filled(_filled(word, values), environment) for word in rest)
        inputs = {name: _filled(value, values) for name, value in step.inputs.items()}
        found.append(Called(pipeline, stage, job, step, names, words, inputs))
    return found


@functools.cache
def _graph(stages: tuple[tuple[str, tuple[str, ...]], ...], name: str) -> frozenset[str]:
    needed = dict(stages).get(name, ())
    return frozenset(needed).union(*(_graph(stages, other) for other in needed if other != name))


def stages_before(pipeline: Pipeline, name: str) -> frozenset[str]:
    """The stages that one depends on, directly or not."""
    order = [stage.name for stage in pipeline.stages]
    earlier = tuple(
        (stage.name, tuple(other for other in stage.depends_on if other in order[: order.index(stage.name)]))
        for stage in pipeline.stages
    )
    return _graph(earlier, name)


def _names(step: Step) -> tuple[tuple[str, ...], list[str]]:
    """What a step calls, and the words that follow."""
    try:
        words = shlex.split(step.script)
    except ValueError:
        words = []
    if not words:
        return ("download: none",) if step.inputs.get("source") == "none" else (step.task,), []
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        return tuple(f"make {target}" for target in targets), [word for word in words[1:] if "=" in word]
    if words[0] != "mlops":
        return (words[0],), words[1:]
    count = 2 if words[1:2] and words[1] in _ALONE else 3
    name = list(_leading(words[1:count]))
    return (" ".join(["mlops", *name]),), words[1 + len(name) :]


def _leading(words: list[str]) -> Iterator[str]:
    for word in words:
        if not _WORD.fullmatch(word):
            return
        yield word


def _defined(*levels: Variables) -> dict[str, str]:
    return {variable.name.lower(): variable.value for level in levels for variable in level.variables}


def _filled(text: str, values: Mapping[str, str]) -> str:
    for _ in range(5):
        text = MACRO.sub(lambda found: values.get(found[1].lower(), found[0]), text)
    return text


def _shell_filled(text: str, values: Mapping[str, str]) -> str:
    return SHELL.sub(lambda found: values.get(found[1] or found[2], found[0]), text)
