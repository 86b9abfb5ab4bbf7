"""All that is wrong with one pipeline as text, of this repository or of a project that was made from its template."""

from __future__ import annotations

from typing import Any

from testing.support.azure_pipelines import delivery_rules, handed_over, job_rules
from testing.support.azure_pipelines.agent_tasks import check_task
from testing.support.azure_pipelines.pipeline_errors import PipelineError
from testing.support.azure_pipelines.pipeline_files import PipelineFiles
from testing.support.azure_pipelines.pipeline_model import pipeline_of
from testing.support.azure_pipelines.project_pipelines import known_names, path_of
from testing.support.azure_pipelines.reference_checks import problems
from testing.support.azure_pipelines.script_lines import ScriptLines
from testing.support.azure_pipelines.template_expansion import Expanded, expand

EARLY = {
    "Build.Reason": "Manual",
    "Build.SourceBranch": "refs/heads/main",
    "System.CollectionUri": "https://example.org/",
    "System.TeamProject": "project",
}


def expanded(files: PipelineFiles, name: str, given: dict[str, Any]) -> Expanded:
    return expand(files, path_of(name), given, EARLY)


def wrong(files: PipelineFiles, name: str, given: dict[str, Any], lines: ScriptLines) -> list[str]:
    """All that is wrong with a pipeline."""
    try:
        pipeline = pipeline_of(expanded(files, name, given).tree, path_of(name))
    except PipelineError as error:
        return [str(error)]
    tasks = [problem for _, _, step in pipeline.steps() for problem in check_task(step.task, step.inputs)]
    known = known_names(files)
    spelled = [*problems(pipeline, known), *lines.problems(pipeline), *tasks]
    # What names nothing cannot be asked what it means.
    return spelled or [
        *handed_over.problems(pipeline, known, files),
        *delivery_rules.problems(pipeline),
        *job_rules.problems(pipeline),
    ]
