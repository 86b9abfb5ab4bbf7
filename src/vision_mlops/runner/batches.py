"""Starts a parallel step: writes down what the mini-batch process is to do, and gives the command that does it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from vision_mlops import paths

if TYPE_CHECKING:
    from vision_mlops.runner.attempts import Attempt


def batch_command(attempt: Attempt) -> list[str]:
    """Command that runs the entry script over the mini-batches of one attempt."""
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
        "max_concurrency": parallel.max_concurrency or 1,
        "error_threshold": -1 if parallel.error_threshold is None else parallel.error_threshold,
        "mini_batch_error_threshold": (
            -1 if parallel.mini_batch_error_threshold is None else parallel.mini_batch_error_threshold
        ),
        "max_retries": int(retry.max_retries) if retry and retry.max_retries is not None else None,
        "timeout": int(retry.timeout) if retry and retry.timeout is not None else None,
        "append_row_to": str(attempt.outputs[parallel.append_to]) if parallel.append_to else None,
        "logging_level": parallel.logging_level,
    }
    file = attempt.folder / "minibatches.json"
    given = {key: value for key, value in spec.items() if value is not None}
    paths.atomic_write(file, json.dumps(given, indent=2) + "\n")
    return [sys.executable, "-m", "vision_mlops.runner.minibatches", str(file)]
