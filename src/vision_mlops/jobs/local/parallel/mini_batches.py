"""Runs a parallel step: ``python -m vision_mlops.jobs.local.parallel.mini_batches SPEC.json`` in the step's working copy.

The entry script's ``init()`` is called once in each of several processes, then ``run(mini_batch)`` for each part of the
input, as Azure ML's parallel jobs do it:

- ``run`` returns a list, tuple or DataFrame with an item for each input item that it could handle. Items that are
  missing count against ``error_threshold``.
- A mini-batch whose ``run`` raises, dies or takes longer than ``timeout`` is tried again ``max_retries`` times; one that
  takes too long is killed with its process. After that all its items are missing.
- A mini-batch with missing items is a failed one, counted against ``mini_batch_error_threshold``.
- A count above its threshold ends the step at once; -1 takes any number.

Results are written in the order of the input when all is done: items as text, a line each; DataFrames separated by
spaces, without a header. Of the arguments that Azure ML gives a meaning in ``program_arguments``, three are understood:
``--error_threshold``, ``--allowed_failed_percent`` and ``--append_row_dataframe_header``.

Exit codes: 0 done, 1 the script or too much of the input failed, 2 a mistake in the spec, the script or the input,
130 or 143 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_mlops.core.errors import MlopsError, PipelineError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import counted
from vision_mlops.jobs.local.parallel.entry_script_process import Script
from vision_mlops.jobs.local.parallel.mini_batch_run import BatchRun, MiniBatchOutcome, Rules, StepFailedError
from vision_mlops.jobs.local.parallel.partitions import InputType, split

DEFAULT_FILE = "parallel_run_step.txt"

Threshold = Annotated[int, Field(ge=-1)]


class MiniBatchSpec(BaseModel):
    """What the process is asked to do; unknown keys and texts in place of numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    entry_script: Annotated[str, Field(min_length=1, description="relative to the working directory")]
    program_arguments: Annotated[str, Field(description="rendered; split as a shell does")] = ""
    input: Annotated[Path, Field(description="absolute path of what is split")]
    input_type: InputType = "uri_folder"
    mini_batch_size: Annotated[int | str | None, Field(description="files, or bytes of a table such as 64kb")] = None
    partition_keys: list[str] = []
    max_concurrency: Annotated[int | None, Field(ge=1, description="processes; the number of cores where None")] = None
    error_threshold: Threshold = -1
    mini_batch_error_threshold: Threshold = -1
    max_retries: Annotated[int, Field(ge=0)] = 2
    timeout: Annotated[int | float, Field(gt=0, description="seconds for a mini-batch")] = 60
    append_row_to: Annotated[Path | None, Field(description="file, or a folder to put one into")] = None
    logging_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"


class _TerminatedError(BaseException):
    """SIGTERM came. Like KeyboardInterrupt no Exception, so that nothing on the way takes it for its own."""


def main(arguments: list[str]) -> int:
    """Run the step that a spec file describes; returns the exit code."""
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        run(read_spec(arguments))
    except MlopsError as error:
        return _fail(str(error), 2)
    except StepFailedError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except _TerminatedError:
        return _fail("terminated", 143)
    return 0


def read_spec(arguments: list[str]) -> MiniBatchSpec:
    """Read the spec file. Raises PipelineError naming the wrong key."""
    if len(arguments) != 1:
        raise PipelineError("give one argument", "python -m vision_mlops.jobs.local.parallel.mini_batches SPEC.json")
    try:
        return MiniBatchSpec.model_validate_json(Path(arguments[0]).read_bytes())
    except OSError as error:
        raise PipelineError(f"the spec cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PipelineError(f"{arguments[0]}: {where}: {first['msg']}") from error


def run(spec: MiniBatchSpec) -> MiniBatchOutcome:
    """Run all mini-batches and write the results.

    Raises:
        MlopsError: the script, the input or a setting cannot be used.
        StepFailedError: ``init`` failed, or a threshold was exceeded; nothing is written.
    """
    script = Path(spec.entry_script).absolute()
    if not script.is_file():
        raise PipelineError(f"there is no entry script {spec.entry_script} in {Path.cwd()}", "check task.entry_script")
    if spec.partition_keys:
        message = "partition_keys need a partitioned MLTable, which cannot be split on this machine"
        raise PipelineError(message, "remove partition_keys, and use mini_batch_size")
    words = _words(spec.program_arguments)
    rules, header = _rules(spec, words)
    started = time.monotonic()
    batches = split(spec.input, spec.input_type, spec.mini_batch_size)
    level = logging.getLevelNamesMapping()[spec.logging_level]

    def report(importance: int, line: str) -> None:
        if importance >= level:
            _say(line)

    outcome = BatchRun(Script(str(script), words, spec.logging_level), batches, rules, report).complete()
    if spec.append_row_to is not None:
        _write(spec.append_row_to, outcome, header)
    _say(
        f"{outcome.batches - outcome.failed_batches} of {counted(outcome.batches, 'mini-batch')} and "
        f"{outcome.items - outcome.failed_items} of {counted(outcome.items, 'item')} in {time.monotonic() - started:.1f} s"
    )
    if outcome.failed_batches == outcome.batches:
        _say("warning: every mini-batch failed, which the thresholds of -1 allow")
    return outcome


def _words(program_arguments: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(program_arguments))
    except ValueError as error:
        raise PipelineError(f"program_arguments cannot be split: {error}", "close the quotation mark") from error


def _rules(spec: MiniBatchSpec, words: Sequence[str]) -> tuple[Rules, bool]:
    """The rules of the spec and of the arguments, which the script sees too; and whether to write a header."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--error_threshold", type=int, default=spec.error_threshold)
    parser.add_argument("--allowed_failed_percent", type=float, default=100.0)
    parser.add_argument("--append_row_dataframe_header", choices=("True", "False"), type=str.title, default="False")
    try:
        found, _ = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise PipelineError(
            f"program_arguments: {error}", "Azure ML gives this argument a meaning of its own"
        ) from error
    rules = Rules(
        processes=spec.max_concurrency or os.cpu_count() or 1,
        max_retries=spec.max_retries,
        timeout=spec.timeout,
        item_threshold=found.error_threshold,
        batch_threshold=spec.mini_batch_error_threshold,
        percent_threshold=found.allowed_failed_percent,
    )
    return rules, found.append_row_dataframe_header == "True"


def _write(target: Path, outcome: MiniBatchOutcome, header: bool) -> None:
    """Write the results in the order of the input: the whole file or nothing."""
    results = [outcome.results[number] for number in sorted(outcome.results)]
    first = next((result.header for result in results if result.header), "") if header else ""
    path = target / DEFAULT_FILE if target.is_dir() else target
    atomic_write(path, first + "".join(result.text for result in results))
    _say(f"results: {path}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def _on_terminate(*_: object) -> None:
    raise _TerminatedError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
