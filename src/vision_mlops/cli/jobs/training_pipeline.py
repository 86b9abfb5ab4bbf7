"""The pipeline that `mlops run` runs, the shipped one or a project's own, and what makes it that of one workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.data.image_location import images_for, is_registered
from vision_mlops.cli.options import RunLocation
from vision_mlops.cli.output import say
from vision_mlops.core.errors import MlopsError, PipelineError
from vision_mlops.core.text import nearest
from vision_mlops.jobs.pipelines import PIPELINES

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload
    from vision_mlops.jobs.definitions.definition import Definition
    from vision_mlops.jobs.definitions.referenced_files import Files

PIPELINE = PIPELINES / "train.yml"
OWN_PIPELINE = Path("pipelines", "train.yml")
PipelineOption = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="Run this pipeline, the Azure ML v2 YAML file of a pipeline job.",
        show_default=f"{OWN_PIPELINE} in the current folder, else the one that ships",
    ),
]
_STEP = "prepare"
_OF_THE_WORKLOAD = frozenset({"workload", "model_name"})


@dataclass(frozen=True)
class TrainingPipeline:
    """A pipeline job that takes a workload.

    Attributes:
        file: Its definition.
        inputs: Names of its inputs.
        outputs: Names of its outputs that the definition gives no place of their own.
        prepare: Names of the inputs of its step ``prepare``: none without such a step, None where a registered component
            keeps them to itself.
    """

    file: Path
    inputs: frozenset[str]
    outputs: frozenset[str]
    prepare: frozenset[str] | None

    def changes(self, workload: Workload, images: str | Path | None, on: RunLocation) -> list[str]:
        """Return what makes it that of a workload: the workload itself as JSON, and where its images are.

        Raises:
            MlopsError: images are given, and it has no place for them.
        """
        import yaml

        from vision_mlops.config.workload_files import workload_content

        changes = [f"inputs.workload={workload_content(workload)}"]
        if "model_name" in self.inputs:
            changes.append(f"inputs.model_name={workload.name}")
        if self.prepare is not None and "images" not in self.prepare:
            if images is not None:
                raise MlopsError(
                    f"{self.file}: --images needs a step {_STEP!r} with an input 'images', which it does not have",
                    "give the step that reads the images this name and input, or name the folder in the workload"
                    " (data.source: folder, data.path: DIR)",
                )
            return changes
        found = images_for(workload, images, on)
        if found is not None:
            path = yaml.safe_dump(found, default_style='"', width=len(found) * 12).strip()
            changes.append(f"jobs.{_STEP}.inputs.images={{type: uri_folder, path: {path}}}")
            if is_registered(found) and self.prepare is not None and "source" in self.prepare:
                changes.append(f"jobs.{_STEP}.inputs.source={found}")
        return changes

    def given(self, inputs: Mapping[str, str]) -> list[str]:
        """Return changes that give values to its other inputs, such as the number of nodes.

        Raises:
            MlopsError: it has no input of that name, or the workload decides on its value.
        """
        for name in inputs:
            if name in _OF_THE_WORKLOAD:
                raise MlopsError(f"--input {name}: the workload gives this input", "choose it with --workload")
            if name not in self.inputs:
                free = sorted(self.inputs.difference(_OF_THE_WORKLOAD))
                raise MlopsError(f"{self.file}: the pipeline has no input {name!r}", nearest(name, free))
        return [f"inputs.{name}={value}" for name, value in inputs.items()]

    def placed(self, places: Mapping[str, Path]) -> list[str]:
        """Return changes that set the paths of those of its outputs that have no path of their own."""
        return [f"outputs.{name}.path={path}" for name, path in places.items() if name in self.outputs]


def pipeline_file(given: Path | None) -> Path:
    """Return the pipeline to run: the given one, that of the project in the current folder, or the one that ships."""
    if given is None and OWN_PIPELINE.is_file():
        say(f"pipeline {OWN_PIPELINE}")
        return OWN_PIPELINE
    return given or PIPELINE


def read_pipeline(file: Path) -> TrainingPipeline:
    """Read a pipeline job that takes a workload. Components are looked for beside it; other mistakes in it are found later.

    Raises:
        PipelineError: the file is no pipeline job, or has no input ``workload``.
    """
    from vision_mlops.jobs.definitions.findings import Findings
    from vision_mlops.jobs.definitions.referenced_files import Files, project_root

    findings = Findings()
    files = Files(project_root(file), findings)
    definition = files.read(file, ("pipelineJob",))
    if definition is None:
        first = findings.errors[0]
        raise PipelineError(f"{first.file}:{first.line}: {first.message}", first.suggestion)
    model: Any = definition.model
    if "workload" not in model.inputs:
        raise PipelineError(
            f"{file}: the pipeline has no input 'workload', in which `mlops run` gives it the workload",
            "add `workload: textile` to its inputs and hand it to the steps as ${{parent.inputs.workload}};"
            " `mlops job run FILE` runs any pipeline",
        )
    open_ = (name for name, output in model.outputs.items() if not getattr(output, "path", None))
    return TrainingPipeline(file, frozenset(model.inputs), frozenset(open_), _inputs_of_prepare(definition, files))


def _inputs_of_prepare(definition: Definition, files: Files) -> frozenset[str] | None:
    from vision_mlops.jobs.definitions.models.steps import ComponentStep
    from vision_mlops.jobs.definitions.step_graph import ports_of

    model: Any = definition.model
    step = model.jobs.get(_STEP)
    if step is None:
        return frozenset()
    if not isinstance(step, ComponentStep):
        return frozenset(getattr(step, "inputs", {}))
    declared = ports_of(step, files.component(step.component, definition, ("jobs", _STEP, "component"))).inputs
    return None if declared is None else frozenset(declared)
