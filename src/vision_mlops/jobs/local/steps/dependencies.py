"""What a command of our own depends on beyond its text: the source of ``mlops``, and the parts of the workload it reads.

The workload is a name, a file or JSON in the command's text. Only the parts that the command reads count: a changed
threshold of the gate must not train again.
"""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path

import vision_mlops
from vision_mlops.config import load_workload
from vision_mlops.config.sections import sections_read
from vision_mlops.core.errors import ConfigError, PipelineError
from vision_mlops.core.hashing import Fingerprints

_SEPARATORS = frozenset({"&&", "||", ";", "|", "&"})
_WORKLOAD = ("--workload", "-w")
# What only plans, submits or serves does not change what a step writes.
_APART = frozenset({"azure", "deployment", "flask_app", "pipeline", "runner", "monitoring"})


def identity(command: str, code: Path | None = None) -> str | list[list[str]]:
    """What stands for a command in a cache key: its text, or its words with each workload replaced by the parts read.

    Args:
        command: For bash.
        code: Folder that it runs in a copy of, where a workload's file may lie.

    Raises:
        PipelineError: the command names a workload that does not exist or has mistakes.
    """
    parts = _commands(command)
    if not any(_arguments(part) is not None for part in parts):
        return command
    return [_with_parts_read(part, code) for part in parts]


def calls_mlops(command: str) -> bool:
    """Whether a command runs ``mlops``."""
    return any(_arguments(part) is not None for part in _commands(command))


def _commands(command: str) -> list[list[str]]:
    """Words of each of the commands in a line; none where only a shell understands the line."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    parts: list[list[str]] = [[]]
    for word in words:
        if word in _SEPARATORS:
            parts.append([word])
        else:
            parts[-1].append(word)
    return parts


@cache
def source_hash() -> str:
    """Hash of the installed package, without what no step runs."""
    root = Path(vision_mlops.__file__).parent
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.suffix in (".py", ".html")]
    names = [path.as_posix() for path in files if path.parts[0] not in _APART]
    with Fingerprints() as fingerprints:
        return fingerprints.of_files(root, names)


def _arguments(words: list[str]) -> int | None:
    """Where the arguments of ``mlops`` begin in the words of one command; None where it is another program."""
    for position, word in enumerate(words):
        if word == "mlops" and all(before in _SEPARATORS or "=" in before for before in words[:position]):
            return position + 1
        if word == "vision_mlops" and position and words[position - 1] == "-m":
            return position + 1
    return None


def _with_parts_read(words: list[str], code: Path | None) -> list[str]:
    start = _arguments(words)
    if start is None:
        return words
    sections = sections_read(words[start:])
    result = words[:start]
    position, seen = start, False
    while position < len(words):
        word = words[position]
        option, equals, value = word.partition("=")
        if option in _WORKLOAD and (equals or position + 1 < len(words)):
            if not equals:
                position += 1
                value = words[position]
            result += [option, _parts(value, sections, code)]
            seen = True
        else:
            result.append(word)
        position += 1
    if not seen and len(sections) < len(sections_read(())):  # the default workload, with what the environment sets
        result.append(_parts("textile", sections, code))
    return result


def _parts(reference: str, sections: tuple[str, ...], code: Path | None) -> str:
    if not reference.lstrip().startswith("{") and ("$" in reference or reference.endswith((".yml", ".yaml"))):
        file = code / reference if code is not None and code.is_dir() else Path(reference)
        if "$" in reference or not (file.is_absolute() and file.is_file()):
            return reference  # the shell knows it, or the command makes it
        reference = str(file)
    try:
        workload = load_workload(reference)
    except ConfigError as error:
        raise PipelineError(error.message, error.hint) from error
    content = workload.model_dump(mode="json")
    return json.dumps({key: content[key] for key in sections}, sort_keys=True)
