"""The workload in an input of a step: given by name, by file or as JSON."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.config import Workload, load_workload
from vision_mlops.core.errors import ConfigError, PipelineError

_DEFAULT = "textile"


def read_workload(text: str, code: Path | None) -> Workload | None:
    """Load the workload that a step will read.

    Args:
        text: Name, file or JSON, as ``--workload`` takes it; empty for the default.
        code: Folder that the step runs in a copy of, where a file may lie.

    Returns:
        None where only the step can know the workload: the shell completes the text, or the step makes the file.

    Raises:
        PipelineError: the workload does not exist, or has mistakes.
    """
    reference = text or _DEFAULT
    if not reference.lstrip().startswith("{") and ("$" in reference or reference.endswith((".yml", ".yaml"))):
        file = code / reference if code is not None and code.is_dir() else Path(reference)
        if "$" in reference or not (file.is_absolute() and file.is_file()):
            return None
        reference = str(file)
    try:
        return load_workload(reference)
    except ConfigError as error:
        raise PipelineError(error.message, error.hint) from error
