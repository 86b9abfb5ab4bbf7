"""What a job asks for and this machine cannot do: said by name before anything runs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from vision_mlops.exceptions import PipelineError
from vision_mlops.pipeline.expressions import ExpressionError
from vision_mlops.pipeline.nodes import Data, Node, Plan, Target
from vision_mlops.pipeline.plan import shown
from vision_mlops.runner.sources import Sources, datastore_path

_PLAIN_WORD = re.compile(r"[A-Za-z][\w.+-]*")
_SHELL = """
    alias bg break builtin case cd command continue declare do done echo elif else enable esac eval exec exit export false
    fc fg fi for function getopts hash if in jobs kill let local popd printf pushd pwd read readonly return select set
    shift shopt source test then time times trap true type ulimit umask unalias unset until wait while
"""
_SHELL_WORDS = frozenset(_SHELL.split())
_REMOTE_CODE = ("azureml:", "http://", "https://", "git+", "git://")
_LOCAL_OUTPUT = re.compile(r"(?!\w[\w+.-]+:)|file:|azureml://", re.IGNORECASE)


def step_path() -> str:
    """PATH of the steps: the programs of this Python's environment come first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def check(plan: Plan, sources: Sources) -> None:
    """Refuse what cannot be done.

    Raises:
        PipelineError: words the first thing, and counts the others.
    """
    problems = [problem for node in plan.nodes for problem in _of_node(node, sources)]
    problems += [problem for key, (_, _, target) in plan.outputs.items() for problem in _of_target("job", key, target)]
    if problems:
        message, hint = problems[0]
        raise PipelineError(message, hint + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))


def _of_node(node: Node, sources: Sources) -> Iterator[tuple[str, str]]:
    where = f"step {node.step!r}"
    if node.distribution not in (None, "pytorch") and (
        node.processes > 1 or node.distribution in ("tensorflow", "ray")
    ):
        yield f"{where}: distribution {node.distribution} is not run on this machine", "use pytorch, or --on azure"
    if node.code is not None and (str(node.code).startswith(_REMOTE_CODE) or not node.code.exists()):
        yield f"{where}: the code {str(node.code)!r} is not on this machine", "use a folder of the project"
    for name, source in node.inputs.items():
        if isinstance(source, Data):
            try:
                sources.find(source, f"{where}: input {name!r}")
            except PipelineError as error:
                yield error.message, error.hint
            if source.mode in ("eval_mount", "eval_download"):
                yield f"{where}: input {name!r} has mode {source.mode}", "use ro_mount, download or direct"
    for name, target in node.outputs.items():
        yield from _of_target(where, name, target)
    yield from _of_parallel(node, where)
    yield from _of_command(node, where)


def _of_target(where: str, name: str, target: Target) -> Iterator[tuple[str, str]]:
    if target.path is None:
        return
    if not _LOCAL_OUTPUT.match(target.path):
        message = f"{where}: output {name!r} goes to {target.path!r}, which this machine does not write"
        yield message, "use a local path or azureml://datastores/NAME/paths/..."
    elif target.path.startswith("azureml:") and "${{" not in target.path and datastore_path(target.path) is None:
        yield f"{where}: output {name!r}: {target.path!r} is no datastore path", "azureml://datastores/NAME/paths/..."


def _of_parallel(node: Node, where: str) -> Iterator[tuple[str, str]]:
    parallel = node.parallel
    if parallel is None:
        return
    if parallel.task.type == "model":
        yield f"{where}: a task of type model is not run on this machine", "use run_function and an entry script"
    if parallel.partition_keys:
        yield f"{where}: partition_keys are not supported on this machine", "use mini_batch_size"
    if node.code is None or not (node.code / parallel.task.entry_script).is_file():
        yield f"{where}: there is no entry script {parallel.task.entry_script!r} in its code", "check code and name"


def _of_command(node: Node, where: str) -> Iterator[tuple[str, str]]:
    try:
        text = node.render(
            {key: shown(source) for key, source in node.inputs.items()},
            {key: key for key in node.outputs},
            {key: key for key in (node.sweep.search_space if node.sweep else {})},
        )
    except ExpressionError as error:
        yield f"{where}: {error}", "give the input a value, or put it in $[[ ]]"
        return
    if node.parallel is None and (word := _first_word(text)) and not _is_known(word, node):
        yield f"{where}: there is no command {word!r} on this machine", "install it, or mend the name"


def _first_word(command: str) -> str:
    """The program that a command begins with, where that is a plain word."""
    words = command.split()
    while words and "=" in words[0] and not words[0].startswith(("'", '"')):
        words.pop(0)  # VARIABLE=value program
    return words[0].rstrip(";") if words else ""


def _is_known(word: str, node: Node) -> bool:
    if word.startswith("./"):
        return node.code is None or not node.code.is_dir() or (node.code / word).exists()
    if not _PLAIN_WORD.fullmatch(word) or word in _SHELL_WORDS:
        return True
    return shutil.which(word, path=step_path()) is not None
