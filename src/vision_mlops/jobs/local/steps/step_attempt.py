"""Prepares one attempt at a step: its command, working copy, environment, and the script that repeats it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vision_mlops.core import paths, revision
from vision_mlops.core.files import atomic_write
from vision_mlops.jobs.definitions.plan.nodes import DataInput, Node, StepOutput
from vision_mlops.jobs.local.environments.environment_contract import StepEnvironment
from vision_mlops.jobs.local.inputs.input_sources import private_copy
from vision_mlops.jobs.local.state.job_context import Context
from vision_mlops.jobs.local.steps.cache_keys import fill
from vision_mlops.jobs.local.steps.code_snapshots import copy_code
from vision_mlops.jobs.local.steps.step_process import StepProcess
from vision_mlops.jobs.local.steps.step_variables import FILE_VARIABLE, OF_NODE, added_variables, run_variables
from vision_mlops.tracking import mlflow_runs

_PRIVATE_MODES = frozenset({"download", "rw_mount"})
# Starts the processes of a distributed step; if one fails, the others are ended.
_RANKS = """\
export MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + RANDOM % 20000))
export WORLD_SIZE={world} LOCAL_WORLD_SIZE={processes}
code=0
for ((rank = 0; rank < WORLD_SIZE; rank++)); do
  node=$((rank / {processes}))
  RANK=$rank LOCAL_RANK=$((rank % {processes})) NODE_RANK=$node AZUREML_PROCESS_NAME=rank_$rank \\
    {of_node} bash -c {command} &
done
for ((rank = 0; rank < WORLD_SIZE; rank++)); do
  wait -n
  ended=$?
  if [ $ended != 0 ] && [ $code = 0 ]; then
    code=$ended
    kill $(jobs -p) 2> /dev/null
  fi
done
exit $code"""
_NOT_INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", FILE_VARIABLE)


@dataclass(frozen=True)
class Attempt:
    """What one run of a step needs.

    Attributes:
        context: What the steps of the job share.
        folder: Folder of its logs and notes.
        work: Working copy of its code.
        results: Folder of its outputs.
        inputs: Text of each input as the command gets it.
        outputs: Path of each output.
        run_id: Its MLflow run; empty without MLflow.
        place: What it runs in.
        originals: Originals of the inputs that are copies, because the step may write into them.
    """

    context: Context
    node: Node
    folder: Path
    work: Path
    results: Path
    inputs: Mapping[str, str]
    outputs: Mapping[str, Path]
    run_id: str
    place: StepEnvironment
    originals: Mapping[str, Path] = field(default_factory=dict)

    def command(self, searched: Mapping[str, str] | None = None) -> str:
        """Fill in all values of the command; ``searched`` are those of a trial."""
        values = {**self.inputs, **(searched or {})}
        return self.node.render(values, {key: str(path) for key, path in self.outputs.items()}, searched)

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the step: that of this process, and :meth:`variables`."""
        inherited = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        return inherited | self.variables()

    def variables(self) -> dict[str, str]:
        """Return the variables that are set for the step: where the stores are, and what Azure ML would set."""
        outputs = {key: str(path) for key, path in self.outputs.items()}
        job, experiment = self.context.state.name, self.context.state.experiment
        found = {
            "PYTHONUNBUFFERED": "1",
            "MLFLOW_TRACKING_URI": mlflow_runs.absolute_uri(),
            revision.VARIABLE: self.context.commit,
            **_absolute_places(),
        }
        own, root = self.run_id or f"{job}_{self.node.step.replace('/', '_')}", self.context.runs.run_id or job
        found |= run_variables(own, root, experiment, self.work, self.node.nodes)
        found |= self.place.variables()
        if self.run_id:
            found |= {"MLFLOW_RUN_ID": self.run_id, "MLFLOW_EXPERIMENT_NAME": experiment}
        data = {name: text for name, text in self.inputs.items() if not self.node.is_value(name)}
        found |= {f"AZURE_ML_INPUT_{name}": text for name, text in data.items()}
        found |= {f"AZURE_ML_OUTPUT_{name}": text for name, text in outputs.items()}
        found |= added_variables(self.node.step)
        return found | {name: fill(text, self.inputs, outputs) for name, text in self.node.variables.items()}

    def wrapped(self, command: str | list[str]) -> str | list[str]:
        """Return the command that this machine runs for a command in the environment of the step."""
        data = [Path(text) for name, text in self.inputs.items() if not self.node.is_value(name)]
        local = [path for path in (*data, *self.outputs.values()) if path.is_absolute()]
        return self.place.wrapped(command, self.work, local, self.variables())

    def process(self, searched: Mapping[str, str] | None = None) -> StepProcess:
        """Create the processes of the step without starting them, and write ``repeat.sh``."""
        node = self.node
        command = parallel_command(self, self.folder) if node.parallel else self.command(searched)
        write_repeat_script(self, searched)
        return StepProcess(
            self.wrapped(command), self.work, self.environment(), self.folder,
            nodes=node.nodes, processes=node.processes, distributed=node.distribution == "pytorch", timeout=node.timeout,
            container=self.place.container,
        )  # fmt: skip

    def preparation(self, order: list[str]) -> StepProcess:
        """Create the process that prepares the environment of the step by a command."""
        return StepProcess(order, self.folder, {**os.environ, **_absolute_places()}, self.folder)


def _absolute_places() -> dict[str, str]:
    """Return variables that name folders, as absolute paths, for a process with another working folder."""
    found = {"MLOPS_HOME": str(paths.home())}
    if "PYTHONPATH" in os.environ:
        entries = os.environ["PYTHONPATH"].split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in entries if entry)
    return found


def prepare_attempt(attempt: Attempt) -> Attempt:
    """Create the working copy, and copies of the inputs that the step may write into."""
    copy_code(attempt.node, attempt.work)
    inputs, originals = dict(attempt.inputs), {}
    for name, source in attempt.node.inputs.items():
        private = isinstance(source, DataInput | StepOutput) and source.mode in _PRIVATE_MODES
        if private and "://" not in inputs.get(name, "://"):
            originals[name] = Path(inputs[name])
            inputs[name] = str(private_copy(originals[name], attempt.folder / "inputs" / name))
    return replace(attempt, inputs=inputs, originals=originals)


def write_repeat_script(attempt: Attempt, searched: Mapping[str, str] | None = None) -> None:
    """Write ``repeat.sh``, which runs the step alone again in its working copy.

    It writes to a folder of its own, ``repeat``: what the step wrote is kept for other jobs, which must find it unchanged.
    """
    node, folder = attempt.node, attempt.folder / "repeat"
    outputs = {name: folder / "outputs" / name for name in attempt.outputs}
    copies = {name: folder / "inputs" / name for name in attempt.originals}
    inputs = {name: str(copies[name] / source.name if source.is_file() else copies[name])
              for name, source in attempt.originals.items()}  # fmt: skip
    again = replace(attempt, inputs={**attempt.inputs, **inputs}, outputs=outputs)
    ours = {key: value for key, value in again.environment().items() if os.environ.get(key) != value}
    lines = ["#!/usr/bin/env bash", f"# Runs the step {node.step!r} alone. What it writes goes to {str(folder)!r}."]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in sorted(ours.items())]
    made = [path.parent if node.outputs[name].type == "uri_file" else path for name, path in outputs.items()]
    if made or copies:
        lines.append(f"rm -rf {shlex.join([str(folder / 'outputs'), *(str(path) for path in copies.values())])}")
        lines.append(f"mkdir -p {shlex.join(dict.fromkeys(str(path) for path in [*made, *copies.values()]))}")
    for name, source in attempt.originals.items():  # which the step may write into
        what = f"{shlex.quote(str(source))}{'/.' if source.is_dir() else ''}"
        lines.append(
            f"cp -RL {what} {shlex.quote(str(copies[name]))} && chmod -R u+rwX {shlex.quote(str(copies[name]))}"
        )
    wrapped = again.wrapped(parallel_command(again, folder) if node.parallel else again.command(searched))
    command = wrapped if isinstance(wrapped, str) else shlex.join(wrapped)
    if node.distribution == "pytorch":
        world = node.nodes * node.processes
        of_node = " ".join(f"{name}=$node" for name in OF_NODE)
        command = _RANKS.format(world=world, processes=node.processes, of_node=of_node, command=shlex.quote(command))
    lines += [f"cd {shlex.quote(str(attempt.work))} || exit", command]
    atomic_write(attempt.folder / "repeat.sh", "\n".join(lines) + "\n")


def parallel_command(attempt: Attempt, folder: Path) -> list[str]:
    """Write the spec of a parallel step; return the command that runs its entry script over the mini-batches."""
    node, parallel = attempt.node, attempt.node.parallel
    assert parallel is not None
    declared = node.declared.get(parallel.input)
    source = node.inputs[parallel.input]
    type_ = declared.type if declared else getattr(source, "type", "uri_folder")
    retry = parallel.retry
    spec = {
        "entry_script": parallel.task.entry_script,
        "program_arguments": attempt.command(),
        "input": attempt.inputs[parallel.input],
        "input_type": type_,
        "mini_batch_size": parallel.mini_batch_size,
        "max_concurrency": parallel.max_concurrency,
        "error_threshold": parallel.error_threshold,
        "mini_batch_error_threshold": parallel.mini_batch_error_threshold,
        "max_retries": int(retry.max_retries) if retry and retry.max_retries is not None else None,
        "timeout": int(retry.timeout) if retry and retry.timeout is not None else None,
        "append_row_to": str(attempt.outputs[parallel.append_to]) if parallel.append_to else None,
        "logging_level": parallel.logging_level,
    }
    file = folder / "minibatches.json"
    given = {key: value for key, value in spec.items() if value is not None}
    atomic_write(file, json.dumps(given, indent=2) + "\n")
    return [attempt.place.python, "-m", "vision_mlops.jobs.local.parallel.mini_batches", str(file)]
