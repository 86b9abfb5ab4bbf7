"""Refuses, before anything runs, what a job requests and this machine cannot do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.hashing import unreadable
from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions import tags
from vision_mlops.jobs.definitions.expressions import ExpressionError
from vision_mlops.jobs.definitions.plan.bindings import shown
from vision_mlops.jobs.definitions.plan.nodes import DataInput, JobPlan, Node, OutputTarget, StepOutput, Value
from vision_mlops.jobs.local.environments.step_environments import StepEnvironments
from vision_mlops.jobs.local.inputs.input_sources import Sources, datastore_path
from vision_mlops.jobs.local.state.job_context import Dependencies
from vision_mlops.jobs.local.steps.cache_keys import fill, sections
from vision_mlops.jobs.local.steps.code_snapshots import check_code

_PLAIN_WORD = re.compile(r"[A-Za-z][\w.+-]*")
# Empty lines, comments, and VARIABLE=value before the program.
_BEGINNING = re.compile(
    r"""(?:\s+|\#[^\n]*\n|[A-Za-z_]\w*=(?:[^\s'"\\$`;&|()<>]|'[^']*'|"[^"\\$`]*")*(?=\s))*"""
    r"""([^\s'"\\$`;&|()<>\#=]+)(?=[\s;&|]|$)"""
)
_REMOTE_CODE = ("azureml:", "http://", "https://", "git+", "git://")
_LOCAL_OUTPUT = re.compile(r"(?!\w[\w+.-]+://|azureml:)|file:|azureml://", re.IGNORECASE)


def check(plan: JobPlan, sources: Sources, dependencies: Dependencies, environments: StepEnvironments) -> None:
    """Refuse what this machine cannot do.

    Args:
        plan: The job.
        sources: Finds its inputs.
        dependencies: What its steps depend on beyond their definition.
        environments: What its steps run in.

    Raises:
        PipelineError: something cannot be done; the message is the first problem, and counts the others.
    """
    problems = [(f"step {node.step!r}: {node.needs_azure[0]} needs Azure", node.needs_azure[1])
                for node in plan.nodes if node.needs_azure is not None]  # fmt: skip
    problems += [problem for node in plan.nodes for problem in _of_node(node, sources, dependencies, environments)]
    problems += [problem for key, (_, _, target) in plan.outputs.items() for problem in _of_target("job", key, target)]
    if problems:
        message, hint = problems[0]
        raise PipelineError(message, hint + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))


def _of_node(
    node: Node, sources: Sources, dependencies: Dependencies, environments: StepEnvironments
) -> Iterator[tuple[str, str]]:
    where = f"step {node.step!r}"
    if node.needs_azure is not None:
        return
    if node.distribution not in (None, "pytorch") and (
        node.processes * node.nodes > 1 or node.distribution in ("tensorflow", "ray")
    ):
        yield f"{where}: distribution {node.distribution} cannot run on this machine", "use pytorch, or --on azure"
    if node.code is not None and (str(node.code).startswith(_REMOTE_CODE) or not node.code.exists()):
        yield f"{where}: the code {str(node.code)!r} is not on this machine", "use a folder of the project"
    else:
        yield from _worded(lambda: check_code(node))
    for name, source in node.inputs.items():
        if isinstance(source, DataInput):
            if not source.unread:
                yield from _worded(partial(_find, sources, source, f"{where}: input {name!r}"))
            if source.mode in ("eval_mount", "eval_download"):
                yield f"{where}: input {name!r} has mode {source.mode}", "use ro_mount, download or direct"
    for name, target in node.outputs.items():
        yield from _of_target(where, name, target)
    yield from _of_parallel(node, where)
    broken = list(_worded(partial(environments.notes, [node])))
    yield from broken
    yield from _of_command(node, where, None if broken else environments.of(node).path())
    yield from _of_tags(node, where, sources, dependencies)


def _worded(look: Callable[[], object]) -> Iterator[tuple[str, str]]:
    try:
        look()
    except PipelineError as error:
        yield error.message, error.hint


def _find(sources: Sources, data: DataInput, what: str) -> None:
    path = sources.find(data, what)
    if (closed := unreadable(path)) is not None:
        raise PipelineError(f"{what}: {closed} cannot be read", "check its permissions")


def _of_target(where: str, name: str, target: OutputTarget) -> Iterator[tuple[str, str]]:
    if target.path is None:
        return
    if not _LOCAL_OUTPUT.match(target.path):
        message = f"{where}: output {name!r} goes to {target.path!r}, which cannot be written from this machine"
        yield message, "use a local path or azureml://datastores/NAME/paths/..."
    elif target.path.startswith("azureml:") and "${{" not in target.path and datastore_path(target.path) is None:
        yield (
            f"{where}: output {name!r}: {target.path!r} is not a datastore path",
            "azureml://datastores/NAME/paths/...",
        )


def _of_parallel(node: Node, where: str) -> Iterator[tuple[str, str]]:
    parallel = node.parallel
    if parallel is None:
        return
    if parallel.task.type == "model":
        yield f"{where}: a task of type model cannot run on this machine", "use run_function and an entry script"
    if parallel.partition_keys:
        yield f"{where}: partition_keys are not supported on this machine", "use mini_batch_size"
    if node.code is None or not (node.code / parallel.task.entry_script).is_file():
        yield f"{where}: its code has no entry script {parallel.task.entry_script!r}", "check code and name"


def _of_command(node: Node, where: str, path: str | None) -> Iterator[tuple[str, str]]:
    try:
        text = node.render(
            {key: shown(source) if node.is_value(key) else f"/{key}" for key, source in node.inputs.items()},
            {key: f"/{key}" for key in node.outputs},
            {key: key for key in (node.sweep.search_space if node.sweep else {})},
        )
    except ExpressionError as error:
        open_ = "has no value" in str(error)
        yield f"{where}: {error}", "give the input a value, or put it in $[[ ]]" if open_ else "fix its command"
        return
    for name, value in node.variables.items():
        if "=" in name or "\0" in name + value:
            yield f"{where}: environment variable {name!r} cannot be set", "remove = from its name, and zero bytes"
        try:
            fill(value, {key: shown(source) for key, source in node.inputs.items()}, {key: key for key in node.outputs})
        except ExpressionError as error:
            yield f"{where}: environment variable {name!r}: {error}", "give the input a value, or put it in $[[ ]]"
    if node.parallel is None and (word := _first_word(text)) and not _is_known(word, node, path):
        yield f"{where}: the command {word!r} does not exist on this machine", "install it, or correct the name"


def _of_tags(node: Node, where: str, sources: Sources, dependencies: Dependencies) -> Iterator[tuple[str, str]]:
    narrowed = tags.sections_read(node.tags)
    known = {*node.declared, *node.inputs}
    if unknown := next((name for name in narrowed if name not in known), None):
        yield (
            f"{where}: the tag {tags.READS + unknown!r} does not name one of its inputs",
            nearest(unknown, sorted(known)),
        )
    elif unknown := next((name for name in sorted(tags.outputs_kept(node.tags)) if name not in node.outputs), None):
        yield (
            f"{where}: the tag {tags.KEEPS} does not name one of its outputs: {unknown!r}",
            nearest(unknown, sorted(node.outputs)),
        )
    elif not any(isinstance(node.inputs.get(name), StepOutput) for name in narrowed):  # which does not exist yet
        for message, hint in _worded(lambda: _check_sections(node, narrowed, sources, dependencies)):
            yield f"{where}: {message}", hint
    if (software := dependencies.software) is not None:
        values = {name: source.text for name, source in node.inputs.items() if isinstance(source, Value)}
        for message, hint in _worded(partial(software, node, values)):
            yield f"{where}: {message}", hint


def _check_sections(node: Node, narrowed: Iterable[str], sources: Sources, dependencies: Dependencies) -> None:
    texts = {}
    for name in narrowed:
        source = node.inputs.get(name)
        if isinstance(source, Value):
            texts[name] = source.text
        elif isinstance(source, DataInput):
            where = f"step {node.step!r}: input {name!r}"
            texts[name] = source.path if source.unread else str(sources.find(source, where))
    sections(dependencies, node, texts)


def _first_word(command: str) -> str:
    """Return the program that a command begins with; empty if only a shell can tell."""
    found = _BEGINNING.match(command)
    return found[1] if found else ""


def _is_known(word: str, node: Node, path: str | None) -> bool:
    """Return whether bash knows a command; ``path`` is its search path, None if that is unknown."""
    if word.startswith("./"):
        return node.code is None or not node.code.is_dir() or (node.code / word).exists()
    if "PATH" in node.variables or path is None or not _PLAIN_WORD.fullmatch(word):
        return True
    asked = subprocess.run(["bash", "-c", 'type -- "$0"', word], env={"PATH": path}, capture_output=True)
    return asked.returncode == 0
