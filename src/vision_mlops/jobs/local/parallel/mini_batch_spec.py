"""The spec of a parallel step: a JSON file, and the arguments of the script to which Azure ML gives a meaning."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_mlops.core.errors import PipelineError, problem_of_file
from vision_mlops.jobs.local.parallel.partitions import InputType

Threshold = Annotated[int, Field(ge=-1, description="how many may fail; -1 allows any number")]


class MiniBatchSpec(BaseModel):
    """What to do; unknown keys and texts in place of numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    entry_script: Annotated[str, Field(min_length=1, description="relative to the working directory")]
    program_arguments: Annotated[str, Field(description="with all values; split as a shell does")] = ""
    input: Annotated[Path, Field(description="absolute path of what is split")]
    input_type: InputType = "uri_folder"
    mini_batch_size: Annotated[int | str | None, Field(description="files, or bytes of a table such as 64kb")] = None
    max_concurrency: Annotated[int, Field(ge=1, description="processes")] = 1
    error_threshold: Threshold = -1
    mini_batch_error_threshold: Threshold = -1
    max_retries: Annotated[int, Field(ge=0)] = 2
    timeout: Annotated[int | float, Field(gt=0, description="seconds for a mini-batch")] = 60
    append_row_to: Annotated[Path | None, Field(description="file, or a folder to put one into")] = None
    logging_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"

    def words(self) -> tuple[str, ...]:
        """Return the arguments of the script. Raises PipelineError if they cannot be split."""
        try:
            return tuple(shlex.split(self.program_arguments))
        except ValueError as error:
            raise PipelineError(f"program_arguments cannot be split: {error}", "close the quotation mark") from error


def read_spec(arguments: Sequence[str]) -> MiniBatchSpec:
    """Read the spec file that is the only argument of a command. Raises PipelineError, which names the wrong key."""
    if len(arguments) != 1:
        raise PipelineError("give one argument", "python -m vision_mlops.jobs.local.parallel.mini_batches SPEC.json")
    try:
        return MiniBatchSpec.model_validate_json(Path(arguments[0]).read_bytes())
    except OSError as error:
        raise PipelineError(f"the spec cannot be read: {error}") from error
    except ValidationError as error:
        raise PipelineError(f"{arguments[0]}: {problem_of_file(error)}") from error


def known_arguments(spec: MiniBatchSpec) -> argparse.Namespace:
    """Parse the arguments of the script to which Azure ML gives a meaning; the script sees them, too.

    Raises:
        PipelineError: one has a wrong value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--error_threshold", type=int, default=spec.error_threshold)
    parser.add_argument("--allowed_failed_percent", type=float, default=100.0)
    parser.add_argument("--append_row_dataframe_header", choices=("True", "False"), type=str.title, default="False")
    try:
        return parser.parse_known_args(spec.words())[0]
    except argparse.ArgumentError as error:
        raise PipelineError(f"program_arguments: {error}", "Azure ML gives this argument a special meaning") from error
