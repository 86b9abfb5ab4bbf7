"""What a job consists of once every binding is followed: steps, each with what it is given and where its outputs go."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    """A number, text or truth value, as the text that a command gets."""

    text: str


@dataclass(frozen=True)
class DataInput:
    """Files that exist before the job: a path relative to ``base``, an address, or a registered asset.

    ``open`` marks the input of a component that is looked at alone: nobody has given it anything yet.
    """

    path: str
    type: str
    mode: str | None
    base: Path
    open: bool = False

    @property
    def unread(self) -> bool:
        """Whether the command gets the address itself, and reads it or not."""
        return self.mode == "direct" and "://" in self.path


@dataclass(frozen=True)
class StepOutput:
    """What another step of the job writes."""

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
    """Where an output goes: a place of the engine's (no path), or a path or address; and the asset it becomes."""

    type: str
    mode: str | None = None
    path: str | None = None
    name: str | None = None
    version: str | None = None
    base: Path = Path()


@dataclass(frozen=True)
class Parallel:
    """How an entry script is run over mini-batches; ``input`` names the input that is cut into them."""

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
    """One step that runs processes. Steps of nested pipelines have their names joined by ``/``.

    Attributes:
        command: Text with expressions over the node's own inputs and outputs; of a parallel step, its arguments.
        code: Folder or file that is copied into the working folder, and ``includes`` that are put beside it.
        environment: As the definition has it: a reference, a file, or JSON; ``environment_file`` is where it stands.
        nodes: How many machines run it, each with so many ``processes``; more than one only where it is distributed.
        unused: What the definition says and a run on this machine has no use for, as text by key.
        needs_azure: What it is that only Azure runs, and what to do instead; None for what this machine runs.
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
        """Names of the steps whose outputs this one reads, in order of appearance."""
        return list(dict.fromkeys(item.step for item in self.inputs.values() if isinstance(item, StepOutput)))

    def is_value(self, name: str) -> bool:
        """Whether an input is a number or text, not data."""
        source, declared = self.inputs.get(name), self.declared.get(name)
        if declared is not None:
            return declared.type in VALUE_TYPES
        return source is None or isinstance(source, Value | SearchedValue)

    def render(
        self, inputs: Mapping[str, str], outputs: Mapping[str, str], searched: Mapping[str, str] | None = None
    ) -> str:
        """The command with values put in; bash takes each path as it is. The arguments of an entry script are no command:
        they are words, quoted where they need it.

        Args:
            inputs: Text by input; those that are missing leave out the ``$[[...]]`` they stand in.
            outputs: Path by output.
            searched: Value by name in the search space, of a trial.
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
        """The command for people: what is not known before the job runs stays an expression."""
        values: dict[tuple[str, ...], str | None] = {("inputs", key): text for key, text in inputs.items()}
        values |= {("outputs", key): f"${{{{outputs.{key}}}}}" for key in self.outputs}
        space = self.sweep.search_space if self.sweep else {}
        values |= {("search_space", key): f"${{{{search_space.{key}}}}}" for key in space}
        return render(self.command, values).strip()


@dataclass(frozen=True)
class JobPlan:
    """A job, ready to be run: ``nodes`` are in an order in which they can run.

    Attributes:
        outputs: Of the whole job: step and output that write each, and where it goes.
        settings: Of the pipeline: continue_on_step_failure, force_rerun, and others as written.
        inputs: Of the job, as text, for the record.
        warnings: What the linter says of the definition; it has no errors.
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

    def node(self, step: str) -> Node:
        """The node of a step."""
        return next(node for node in self.nodes if node.step == step)


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

    def to_dict(self) -> dict[str, Any]:
        """The step as plain values."""
        return asdict(self)
