"""Environments that workflows of GitHub deploy to, read from ``.github/workflows``."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.yaml_text import read_mapping


def workflow_environments(root: Path) -> list[str]:
    """List the environments of all jobs, except those whose name only a run can determine.

    Raises:
        PipelineError: a workflow cannot be read.
    """
    found: dict[str, None] = {}
    for file in sorted((root / ".github" / "workflows").glob("*.y*ml")):
        jobs = read_mapping(file).get("jobs")
        if not isinstance(jobs, dict):
            raise PipelineError(f"{file} is not a workflow: it has no mapping of jobs", "fix the file")
        for job in jobs.values():
            wanted = job.get("environment") if isinstance(job, dict) else None
            name = wanted.get("name") if isinstance(wanted, dict) else wanted
            if isinstance(name, str) and "${{" not in name:
                found[name] = None
    return list(found)
