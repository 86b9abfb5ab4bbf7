"""``mlops run``: the training pipeline for one workload, on this machine or on Azure ML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.data.image_location import title_of
from vision_mlops.cli.jobs.job import ForceOption, JobsOption, OnOption, WaitOption
from vision_mlops.cli.jobs.on_this_machine import interruptible, local_options, report
from vision_mlops.cli.jobs.training_pipeline import PIPELINE, PipelineOption, TrainingPipeline, read_pipeline
from vision_mlops.cli.options import JsonOption, RunLocation, SetOption, WorkloadOption
from vision_mlops.cli.output import emit_json, say

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload
    from vision_mlops.jobs.local.engine.local_jobs import JobResult

ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images", help="Folder of class folders to use instead, or registered data: `azureml:NAME:VERSION`."
    ),
]


def run(
    workload: WorkloadOption = "textile",
    images: ImagesOption = None,
    set_: SetOption = None,
    pipeline: PipelineOption = PIPELINE,
    on: OnOption = RunLocation.LOCAL,
    name: Annotated[str | None, typer.Option("--name", help="Name of the job; a new one by default.")] = None,
    jobs: JobsOption = 2,
    force: ForceOption = False,
    wait: WaitOption = True,
    json_: JsonOption = False,
) -> None:
    """Prepare, train, evaluate, judge and register a workload, with the pipeline that ships or with one of your own.

    Only what a change concerns is run again: after another threshold of the gate, the gate alone. With `--images`, a
    shipped workload takes the name of the folder or data asset. On this machine the results are copied to `outputs/`:
    `data/NAME`, `bundles/NAME`, `reports/NAME`, `verdicts/NAME.json`. On Azure ML, what the job needs is created where
    it is missing, and its outputs come to `outputs/azure/JOB`.

    A pipeline of your own has an input `workload`, and may have an input `model_name`, the outputs `data`, `bundle`,
    `report` and `verdict`, and for `--images` a step `prepare` with an input `images`.

    Example: `mlops run --workload textile --set training.epochs=4`, or `mlops run --pipeline pipelines/train.yml`
    """
    loaded = workload_for(workload, images, set_ or ())
    if on is RunLocation.AZURE:
        _run_on_azure(read_pipeline(pipeline), loaded, images, name, force=force, wait=wait, as_json=json_)
        return
    ended = run_pipeline(loaded, images, pipeline=pipeline, name=name, jobs=jobs, force=force, quiet=json_)
    report(ended, as_json=json_)
    if not json_:
        tell_verdict(ended)


def workload_for(reference: str, images: str | Path | None, set_: Sequence[str]) -> Workload:
    """The workload that is run. A shipped one with other images takes their folder's name, so that its model gets it too."""
    from vision_mlops.config import load_workload
    from vision_mlops.config.workload_files import is_shipped

    names = _named_after(images) if images is not None and is_shipped(reference) else []
    return load_workload(reference, [*names, *set_])


def _named_after(images: str | Path) -> list[str]:
    title = title_of(str(images))
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    name = name if name[:1].isalpha() and len(name) > 1 else f"images-{name}".rstrip("-")
    return [f"name={name[:63]}", f"title={title}"]


def _run_on_azure(
    pipeline: TrainingPipeline,
    workload: Workload,
    images: str | None,
    name: str | None,
    *,
    force: bool,
    wait: bool,
    as_json: bool,
) -> None:
    from vision_mlops.cli.jobs.on_azure import bring_back, report_azure, run_on_azure
    from vision_mlops.core import paths

    changes = [
        *pipeline.changes(workload, images, RunLocation.AZURE),
        *(["settings.force_rerun=true"] if force else []),
    ]
    tags = {"workload": workload.name}
    job = run_on_azure(pipeline.file, changes, name, wait=wait, tags=tags)
    if wait and job.status == "Completed":
        found = bring_back(job, paths.home() / "azure" / job.name)
        if as_json:
            emit_json({**job.to_dict(), **found})
            return
        for step, metrics in found["metrics"].items():
            say(f"  {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
    report_azure(job, as_json=as_json, waited=wait)


def run_pipeline(
    workload: Workload,
    images: str | Path | None,
    *,
    pipeline: Path = PIPELINE,
    name: str | None = None,
    jobs: int = 2,
    force: bool = False,
    quiet: bool = False,
) -> JobResult:
    """Run a training pipeline on this machine and copy what it made to its usual places."""
    from dataclasses import replace

    from vision_mlops.core import paths
    from vision_mlops.jobs.local.engine.local_jobs import run_job

    home = paths.home()
    places = {
        "data": home / "data" / workload.name,
        "bundle": home / "bundles" / workload.name,
        "report": home / "reports" / workload.name,
        "verdict": home / "verdicts" / f"{workload.name}.json",
    }
    training = read_pipeline(pipeline)
    changes = [*training.changes(workload, images, RunLocation.LOCAL), *training.placed(places)]
    options = replace(local_options(jobs, force, quiet), tags={"workload": workload.name})
    with interruptible():
        ended = run_job(training.file, changes, name=name, options=options)
    if {"verdict", "report"} <= ended.state.outputs.keys():
        _show_in_report(ended)
    return ended


def pipeline_changes(workload: Workload, images: str | Path | None, on: RunLocation = RunLocation.LOCAL) -> list[str]:
    """What makes the shipped pipeline that of a workload: the workload itself as JSON, and where its images are."""
    return read_pipeline(PIPELINE).changes(workload, images, on)


def tell_verdict(ended: JobResult) -> None:
    """Print the verdict of a pipeline that completed, and its reasons; nothing where the pipeline judges nothing."""
    if "verdict" not in ended.state.outputs:
        return
    verdict = _verdict(ended)
    signs = {True: "ok  ", False: "FAIL", None: "note"}
    say("")
    for reason in verdict["reasons"]:
        say(f"  {signs[reason['passed']]}  {reason['message']}")
    typer.echo(f"verdict: {verdict['decision']}")


def _verdict(ended: JobResult) -> dict[str, Any]:
    from vision_mlops.evaluation.gate import read_verdict

    return read_verdict(Path(ended.state.outputs["verdict"]))


def _show_in_report(ended: JobResult) -> None:
    """Show the verdict in the copy of the report that people open; the step's own stays as the step wrote it."""
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.evaluation.gate import show_verdict

    show_verdict(read_evaluation(Path(ended.state.outputs["report"])), _verdict(ended))
