"""``mlops run``: run the training pipeline for one workload, on this machine or on Azure ML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.azure.checks_first import SkipChecks
from vision_mlops.cli.data.image_location import name_of, title_of, workload_of
from vision_mlops.cli.jobs.job import EnvironmentOption, ForceOption, JobsOption, WaitOption
from vision_mlops.cli.jobs.on_this_machine import local_options, report
from vision_mlops.cli.jobs.own_code_trial import try_metrics
from vision_mlops.cli.jobs.run_verdict import exit_code, run_verdict, tell
from vision_mlops.cli.jobs.training_pipeline import PipelineOption, pipeline_file, read_pipeline
from vision_mlops.cli.options import (
    ChosenWorkloadOption,
    ImagesOption,
    InputOption,
    JsonOption,
    OnOption,
    RunLocation,
    SetOption,
    pairs,
)
from vision_mlops.cli.output import emit_json, interruptible, say
from vision_mlops.core import paths
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload
    from vision_mlops.jobs.azureml.azure_records import JobRecord
    from vision_mlops.jobs.local.engine.local_jobs import JobResult


def run(
    workload: ChosenWorkloadOption = None,
    images: ImagesOption = None,
    set_: SetOption = None,
    pipeline: PipelineOption = None,
    inputs: InputOption = None,
    on: OnOption = RunLocation.LOCAL,
    name: Annotated[str | None, typer.Option(help="Job name.", show_default="new")] = None,
    jobs: JobsOption = 2,
    force: ForceOption = False,
    environment: EnvironmentOption = EnvironmentMode.AUTO,
    wait: WaitOption = True,
    skip_checks: SkipChecks = False,
    json_: JsonOption = False,
) -> None:
    """Prepare, train, evaluate, judge and register a workload, with the pipeline of the project or the one that ships.

    Only steps that a change affects run again: after a change of a threshold, only the gate. `--images` alone uses the
    workload that the images belong to; with `--workload`, a shipped workload takes the name of the folder or data asset. On
    this machine, the results are copied to `outputs/`: `data/NAME`, `bundles/NAME`, `reports/NAME`, `verdicts/NAME.json`. On
    Azure ML, what the job needs is created if it is missing, and its outputs are downloaded to `outputs/azure/JOB`.

    At the end it prints the verdict of the gate, the registered version, and the champion. Exit code 1 if a step fails, or
    if the verdict is reject or inconclusive: then the version is registered, and the champion stays.

    `--input` sets an input of the pipeline; the shipped one has `seed`, `nodes`, `processes`, `shm_size` and `fail_on`.

    A pipeline of your own has an input `workload`, and may have an input `model_name`, the outputs `data`, `bundle`,
    `report` and `verdict`, and for `--images` a step `prepare` with an input `images`.

    Example: `mlops run --workload textile --set training.epochs=4`, or `mlops run --pipeline pipelines/train.yml`
    """
    if on is RunLocation.AZURE:
        from vision_mlops.cli.jobs.on_azure import refuse_options_of_this_machine, run_on_azure

        refuse_options_of_this_machine(environment, jobs)
    loaded = workload_for(workload, images, set_ or ())
    values = pairs(inputs, "--input", "nodes=2")
    try_metrics(loaded, images, on)
    if on is RunLocation.AZURE:
        training = read_pipeline(pipeline_file(pipeline))
        changes = [
            *training.changes(loaded, images, RunLocation.AZURE),
            *training.given(values),
            *(["settings.force_rerun=true"] if force else []),
        ]
        tags = {"workload": loaded.name}
        job = run_on_azure(training.file, changes, name, wait=wait, tags=tags, skip_checks=skip_checks)
        _report_azure(job, loaded.name, waited=wait, as_json=json_)
        return
    ended = run_pipeline(loaded, images, pipeline=pipeline, inputs=values, name=name, jobs=jobs, force=force,
                         quiet=json_, environment=environment)  # fmt: skip
    verdict = run_verdict(ended.state.outputs, loaded.name)
    report(ended, as_json=json_, verdict=verdict)
    if not json_:
        tell(verdict)
    raise typer.Exit(exit_code(verdict))


def workload_for(reference: str | None, images: str | Path | None, set_: Sequence[str]) -> Workload:
    """Load the workload to run. A shipped one with other images takes the name of their folder, and so does its model.

    Raises:
        MlopsError: images are given without a workload, and belong to none.
    """
    from vision_mlops.config import load_workload
    from vision_mlops.config.workload_files import is_shipped

    chosen = workload_of(reference, images)
    if images is None or not is_shipped(chosen):
        return load_workload(chosen, set_)
    return load_workload(chosen, [f"name={name_of(images)}", f"title={title_of(str(images))}", *set_])


def _report_azure(job: JobRecord, model: str, *, waited: bool, as_json: bool) -> None:
    """Report a job; bring the results of a completed one here, and end with the exit code of its verdict."""
    from vision_mlops.cli.jobs.on_azure import bring_back, report_azure

    if not waited or job.status != "Completed":
        report_azure(job, as_json=as_json, waited=waited)
        return
    found = bring_back(job, paths.home() / "azure" / job.name)
    verdict = run_verdict(found["outputs"], model, "azure")
    if as_json:
        emit_json({**job.to_dict(), **found, **({"verdict": verdict} if verdict is not None else {})})
    else:
        for step, metrics in found["metrics"].items():
            say(f"  {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        report_azure(job, as_json=False, waited=True)
        tell(verdict)
    raise typer.Exit(exit_code(verdict))


def run_pipeline(
    workload: Workload,
    images: str | Path | None,
    *,
    pipeline: Path | None = None,
    inputs: Mapping[str, str] | None = None,
    name: str | None = None,
    jobs: int = 2,
    force: bool = False,
    quiet: bool = False,
    environment: EnvironmentMode = EnvironmentMode.AUTO,
) -> JobResult:
    """Run a training pipeline on this machine and copy its outputs to their usual places.

    By default it is that of the project in the current folder, or the one that ships.
    """
    from dataclasses import replace

    from vision_mlops.jobs.local.engine.local_jobs import run_job

    home = paths.home()
    places = {
        "data": home / "data" / workload.name,
        "bundle": home / "bundles" / workload.name,
        "report": home / "reports" / workload.name,
        "verdict": home / "verdicts" / f"{workload.name}.json",
    }
    training = read_pipeline(pipeline_file(pipeline))
    changes = [
        *training.changes(workload, images, RunLocation.LOCAL),
        *training.given(inputs or {}),
        *training.placed(places),
    ]
    options = replace(local_options(jobs, force, quiet, environment), tags={"workload": workload.name})
    with interruptible():
        ended = run_job(training.file, changes, name=name, options=options)
    if {"verdict", "report"} <= ended.state.outputs.keys():
        _show_in_report(ended)
    return ended


def _show_in_report(ended: JobResult) -> None:
    """Show the verdict in the copy of the report that people open; the report of the step is not changed."""
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.evaluation.gate import read_verdict, show_verdict

    outputs = ended.state.outputs
    show_verdict(read_evaluation(Path(outputs["report"])), read_verdict(Path(outputs["verdict"])))
