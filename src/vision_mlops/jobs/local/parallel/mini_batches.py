"""Runs a parallel step: ``python -m vision_mlops.jobs.local.parallel.mini_batches SPEC.json`` in the step's working copy.

The entry script's ``init()`` is called once in each of several processes, then ``run(mini_batch)`` for each part of the
input, as Azure ML's parallel jobs do it:

- ``run`` returns a list, tuple or DataFrame with an item for each input item that it could handle. Missing items count
  against ``error_threshold``.
- A mini-batch whose ``run`` raises, dies or takes longer than ``timeout`` is retried ``max_retries`` times; one that takes
  too long is killed with its process. After that all its items are missing.
- A mini-batch with missing items has failed, and counts against ``mini_batch_error_threshold``.
- A count above its threshold ends the step at once; -1 allows any number.

Results are written in the order of the input at the end: items as text, one per line; DataFrames separated by spaces,
without a header. Of the arguments to which Azure ML gives a meaning in ``program_arguments``, three are supported:
``--error_threshold``, ``--allowed_failed_percent`` and ``--append_row_dataframe_header``.

Exit codes: 0 for success; 1 if the script or too much of the input failed; 2 for a mistake in the spec, the script or the
input; 130 or 143 if interrupted.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path

from vision_mlops.core.errors import MlopsError, PipelineError
from vision_mlops.core.files import atomic_write
from vision_mlops.core.text import counted
from vision_mlops.jobs.local.parallel.entry_script import EntryScript
from vision_mlops.jobs.local.parallel.mini_batch_run import BatchRun, StepFailedError
from vision_mlops.jobs.local.parallel.mini_batch_spec import MiniBatchSpec, known_arguments, read_spec
from vision_mlops.jobs.local.parallel.partitions import split

DEFAULT_FILE = "parallel_run_step.txt"


def main(arguments: list[str]) -> int:
    """Run the step that a spec file describes; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(read_spec(arguments))
    except MlopsError as error:
        return _fail(str(error), 2)
    except StepFailedError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except SystemExit:
        return _fail("terminated", 143)
    return 0


def run(spec: MiniBatchSpec) -> None:
    """Run all mini-batches and write the results.

    Raises:
        MlopsError: the script, the input or a setting cannot be used.
        StepFailedError: ``init`` failed, or a threshold was exceeded; nothing is written.
    """
    script = Path(spec.entry_script).absolute()
    if not script.is_file():
        raise PipelineError(
            f"the entry script {spec.entry_script} does not exist in {Path.cwd()}", "check task.entry_script"
        )
    found = known_arguments(spec)
    started = time.monotonic()
    batches = split(spec.input, spec.input_type, spec.mini_batch_size)
    level = logging.getLevelNamesMapping()[spec.logging_level]

    def report(importance: int, line: str) -> None:
        if importance >= level:
            _say(line)

    entry_script = EntryScript(str(script), spec.words(), spec.logging_level)
    done = BatchRun(entry_script, batches, spec, found, report)
    done.complete()
    if spec.append_row_to is not None:
        _write(spec.append_row_to, done, found.append_row_dataframe_header == "True")
    _say(
        f"{len(batches) - done.failed_batches} of {counted(len(batches), 'mini-batch')} and "
        f"{done.items - done.failed_items} of {counted(done.items, 'item')} in {time.monotonic() - started:.1f} s"
    )
    if done.failed_batches == len(batches):
        _say("warning: every mini-batch failed, which thresholds of -1 allow")


def _write(target: Path, done: BatchRun, header: bool) -> None:
    """Write the results in the order of the input: the complete file or nothing."""
    results = [done.results[number] for number in sorted(done.results)]
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
