"""Environments that workflows of GitHub deploy to, read from ``.github/workflows``."""

from __future__ import annotations

from pathlib import Path

import yaml

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.yaml_text import read_yaml


def workflow_environments(root: Path) -> list[str]:
    """List the environments of all jobs, except those whose name only a run can determine.

    Raises:
        PipelineError: a workflow cannot be read.
    """
    found: dict[str, None] = {}
    for file in sorted((root / ".github" / "workflows").glob("*.y*ml")):
        try:
            content = read_yaml(file.read_text(encoding="utf-8"))
            jobs = list(content["jobs"].values())
        except (
            OSError,
            UnicodeDecodeError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            yaml.YAMLError,
        ) as error:
            raise PipelineError(
                f"{file} is not a workflow: {' '.join(str(error).split())}", "correct the file"
            ) from error
        for job in jobs:
            wanted = job.get("environment") if isinstance(job, dict) else None
            name = wanted.get("name") if isinstance(wanted, dict) else wanted
            if isinstance(name, str) and "${{" not in name:
                found[name] = None
    return list(found)
