"""The one line that a step runs: a target of the Makefile, or a command of ``mlops`` with options that it has.

The command line is parsed by the commands' own parsers and not run. Macros and variables of the shell stand for their values
where those are known, and for a word otherwise.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testing.support.azure_pipelines.expression import MACRO
from testing.support.azure_pipelines.logging_commands import command_in
from testing.support.azure_pipelines.pipeline_model import Job, Pipeline, Stage, Step

_TARGETS = re.compile(r"^([A-Za-z][\w-]*(?: [\w-]+)*):(?!=)", re.MULTILINE)
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
_SHELL = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_NAMED = re.compile(r"(?<![\w/=])[A-Z][A-Z_]{2,}\b")
_PRESET = re.compile(r"^([A-Z_]+) \?=", re.MULTILINE)
_OPTIONAL = {"images": {"REGISTRY"}}
_LOGGING = ("task.setvariable", "task.prependpath", "build.addbuildtag")
_PLACEHOLDER = "1"


def with_included(makefile: Path) -> str:
    """Text of a Makefile, and of those that it includes."""
    text = makefile.read_text(encoding="utf-8")
    included = re.findall(r"^include (\S+)$", text, re.MULTILINE)
    return text + "".join((makefile.parent / name).read_text(encoding="utf-8") for name in included)


class ScriptLines:
    """What script lines may call.

    Args:
        makefile: Of the repository.
    """

    def __init__(self, makefile: Path) -> None:
        self._root = makefile.parent
        self._makefile = with_included(makefile)
        self._targets = {name for found in _TARGETS.findall(self._makefile) for name in found.split()}

    def problems(self, pipeline: Pipeline) -> list[str]:
        """A line for each step whose script does not call what exists."""
        found = []
        for stage, job, step in pipeline.steps():
            if step.script:
                values = _values(pipeline, stage, job, step)
                where = f"{pipeline.path}: {stage.name}.{job.name}: {step.title:.60}"
                found += [f"{where}: {problem}" for problem in self.of_script(step.script, values)]
        return list(dict.fromkeys(found))

    def of_script(self, script: str, values: Mapping[str, str]) -> Iterator[str]:
        """What is wrong with one script; ``values`` are variables by their names in small letters."""
        lines = [line for line in script.splitlines() if line.strip()]
        if len(lines) != 1:
            yield f"{len(lines)} lines, where one is expected: {script.strip()!r}"
            return
        line = _filled(lines[0].strip(), values)
        try:
            words = shlex.split(line)
        except ValueError as error:
            yield f"no shell line: {error}: {line}"
            return
        if words[0] == "make":
            yield from self._make(words[1:])
        elif words[0] == "mlops":
            yield from mlops_problems(tuple(words[1:]))
        elif words[0] == "echo":
            command = command_in(line)
            if command is None or command.area_action not in _LOGGING:
                yield f"an echo that tells the agent nothing: {line}"
        else:
            yield f"calls neither make nor mlops: {line}"

    def _make(self, words: list[str]) -> Iterator[str]:
        targets = [word for word in words if "=" not in word]
        if not targets:
            yield "make without a target"
        for target in targets:
            if target not in self._targets:
                yield f"the Makefile has no target {target!r}"
        given = {word.partition("=")[0] for word in words if "=" in word}
        for target in targets:
            for name in sorted(self._needed(target) - given):
                yield f"make {target} needs {name}"
        text = "\n".join([self._makefile, *self._scripts(targets)])
        for word in words:
            if "=" in word:
                found = _ASSIGNMENT.fullmatch(word)
                name = found[1] if found else word.partition("=")[0]
                # What make is given on its command line, scripts find in their environment.
                if not re.search(rf"\$\({name}\)|\$\$?\{{?{name}\b", text):
                    yield f"the Makefile does not read {name}"

    def _needed(self, target: str) -> set[str]:
        """Variables that the help of a target names, but those with a value of their own in the Makefile."""
        found = re.search(rf"^{target}:.*## (.*)", self._makefile, re.MULTILINE)
        named = set(_NAMED.findall(found[1])) if found else set()
        return named - set(_PRESET.findall(self._makefile)) - _OPTIONAL.get(target, set())

    def _scripts(self, targets: list[str]) -> Iterator[str]:
        """Texts of the scripts that targets run."""
        for target in targets:
            recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", self._makefile, re.MULTILINE)
            for name in re.findall(r"[\w/-]+\.sh", recipe[1] if recipe else ""):
                yield (self._root / name).read_text(encoding="utf-8")


@functools.cache
def _command_line() -> Any:
    from typer.main import get_command

    from vision_mlops.cli.main import app

    return get_command(app)


@functools.cache
def mlops_problems(given: tuple[str, ...]) -> list[str]:
    """What the parsers of ``mlops`` refuse."""
    command, context, name, words = _command_line(), None, "mlops", list(given)
    while True:
        try:
            context = command.make_context(name, list(words), parent=context, **({} if context else {"color": False}))
        except Exception as error:
            message = getattr(error, "format_message", None)
            if message is None:
                raise
            return [f"{name}: {message()}"]
        if not hasattr(command, "commands"):
            return []
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            return [f"{name}: no command"]
        name, words = f"{name} {rest[0]}", rest[1:]
        found = command.commands.get(rest[0])
        if found is None:
            return [f"no command {name!r}"]
        command = found


def _values(pipeline: Pipeline, stage: Stage, job: Job, step: Step) -> dict[str, str]:
    values: dict[str, str] = {}
    for level in (pipeline.variables, stage.variables, job.variables):
        values |= {variable.name.lower(): variable.value for variable in level.variables if "$[" not in variable.value}
    return values | {name.lower(): value for name, value in step.env.items()}


def _filled(line: str, values: Mapping[str, str]) -> str:
    """The line with the values of its variables; those of others are a word."""
    for _ in range(5):
        line = MACRO.sub(lambda found: values.get(found[1].lower(), _PLACEHOLDER), line)
    return _SHELL.sub(lambda found: values.get((found[1] or found[2]).lower(), _PLACEHOLDER), line)
