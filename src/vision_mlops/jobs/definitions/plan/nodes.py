"""What a job consists of after every binding is resolved: steps, each with its inputs and where its outputs go."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mlops.jobs.definitions.expressions import render
from vision_mlops.jobs.definitions.findings import Finding
from vision_mlops.jobs.definitions.models.ports import VALUE_TYPES, InputDeclaration
from vision_mlops.jobs.definitions.models.steps import ParallelTask, Retry
from vision_mlops.jobs.definitions.models.sweep import Sweep
from vision_mlops.jobs.definitions.plan.shell import render_command, render_words


@dataclass(frozen=True)
class Value:
    """A number, string or boolean, as the text that a command gets."""

    text: str


@dataclass(frozen=True)
class DataInput:
    """Files that exist before the job: a path relative to ``base``, an address, or a registered asset.

    ``open`` marks an input of a component without a job, which has not been given anything yet.
    """

    path: str
    type: str
    mode: str | None
    base: Path
    open: bool = False

    @property
    def unread(self) -> bool:
        """Whether the command gets the address itself, and decides whether to read it."""
        return self.mode == "direct" and "://" in self.path


@dataclass(frozen=True)
class StepOutput:
    """An output of another step of the job."""

    step: str
    output: str
    mode: str | None = None


@dataclass(frozen=True)
class SearchedValue:
    """A value that a sweep chooses for each trial."""

    name: str


Source = Value | DataInput | StepOutput | SearchedValue


@dataclass(frozen=True)
class OutputTarget:
    """Where an output goes: a path, an address, or a place that the engine chooses (no path); and the asset it becomes."""

    type: str
    mode: str | None = None
    path: str | None = None
    name: str | None = None
    version: str | None = None
    base: Path = Path()


@dataclass(frozen=True)
class Parallel:
    """How an entry script is run over mini-batches; ``input`` names the input that is split into them."""

    task: ParallelTask
    input: str
    mini_batch_size: str | None = None
    partition_keys: tuple[str, ...] = ()
    max_concurrency: int | None = None
    error_threshold: int | None = None
    mini_batch_error_threshold: int | None = None
    retry: Retry | None = None
    logging_level: str | None = None
    append_to: str | None = None


@dataclass(frozen=True)
class Node:
    """One step that runs processes. Names of steps in nested pipelines are joined by ``/``.

    Attributes:
        command: Text with expressions over the node's own inputs and outputs; the arguments of a parallel step.
        code: Folder or file that is copied into the working folder, and ``includes`` that are put beside it.
        environment: A reference, a file, or JSON; ``environment_file`` is the definition that contains it.
        nodes: Number of machines that run it, each with that many ``processes``; above one only if it is distributed.
        unused: Settings that a run on this machine does not use, as text by key.
        needs_azure: For what only Azure runs: what it is, and what to do instead.
    """

    step: str
    type: str
    component: str
    command: str
    inputs: Mapping[str, Source]
    outputs: Mapping[str, OutputTarget]
    declared: Mapping[str, InputDeclaration] = field(default_factory=dict)
    file: Path = Path()
    code: Path | None = None
    includes: tuple[Path, ...] = ()
    environment: str = ""
    environment_file: Path = Path()
    variables: Mapping[str, str] = field(default_factory=dict)
    distribution: str | None = None
    nodes: int = 1
    processes: int = 1
    timeout: int | None = None
    parallel: Parallel | None = None
    sweep: Sweep | None = None
    deterministic: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    needs_azure: tuple[str, str] | None = None

    @property
    def needs(self) -> list[str]:
        """The names of the steps whose outputs this one reads, in order of appearance."""
        return list(dict.fromkeys(item.step for item in self.inputs.values() if isinstance(item, StepOutput)))

    def is_value(self, name: str) -> bool:
        """Return whether an input is a number, string or boolean, not data."""
        source, declared = self.inputs.get(name), self.declared.get(name)
        if declared is not None:
            return declared.type in VALUE_TYPES
        return source is None or isinstance(source, Value | SearchedValue)

    def render(
        self, inputs: Mapping[str, str], outputs: Mapping[str, str], searched: Mapping[str, str] | None = None
    ) -> str:
        """Fill in the values and paths of the command, each path as one word for bash.

        The arguments of an entry script are not a command, but words that are quoted if necessary.

        Args:
            inputs: Text by input; a ``$[[...]]`` with one that is missing is left out.
            outputs: Path by output.
            searched: Value by name in the search space, for a trial.
        """
        values: dict[tuple[str, ...], str | None] = {
            ("inputs", key): text for key, text in inputs.items() if self.is_value(key)
        }
        values |= {("search_space", key): text for key, text in (searched or {}).items()}
        paths: dict[tuple[str, ...], str] = {
            ("inputs", key): text for key, text in inputs.items() if not self.is_value(key)
        }
        paths |= {("outputs", key): text for key, text in outputs.items()}
        if self.parallel is not None:
            return shlex.join(render_words(self.command, values, paths))
        return render_command(self.command, values, paths).strip()

    def describe(self, inputs: Mapping[str, str]) -> str:
        """Write the command for people and comparisons: nothing is quoted, outputs and searched values stay expressions."""
        values: dict[tuple[str, ...], str | None] = {("inputs", key): text for key, text in inputs.items()}
        values |= {("outputs", key): f"${{{{outputs.{key}}}}}" for key in self.outputs}
        space = self.sweep.search_space if self.sweep else {}
        values |= {("search_space", key): f"${{{{search_space.{key}}}}}" for key in space}
        return render(self.command, values).strip()


@dataclass(frozen=True)
class JobPlan:
    """A job that is ready to run: ``nodes`` are in an order in which they can run.

    Attributes:
        outputs: For each output of the job: the step and output that write it, and where it goes.
        settings: Settings of the pipeline: continue_on_step_failure, force_rerun, and others as written.
        inputs: Inputs of the job as text, for the record.
        warnings: Warnings of the linter; the definition has no errors.
    """

    file: Path
    kind: str
    name: str
    display_name: str
    experiment: str
    nodes: tuple[Node, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, tuple[str, str, OutputTarget]]
    settings: Mapping[str, Any]
    tags: Mapping[str, str]
    unused: Mapping[str, str]
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class PlannedStep:
    """One step as text, for people. ``command`` is empty for steps that a registered component defines."""

    step: str
    type: str
    component: str
    needs: list[str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    command: str
