"""``mlops pipeline``: start pipelines by calls, by schedules, and when images change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.azure.checks_first import SkipChecks, check_first
from vision_mlops.cli.jobs import trigger
from vision_mlops.cli.jobs.on_azure import workspace_client
from vision_mlops.cli.jobs.training_pipeline import PipelineOption, pipeline_file, read_pipeline
from vision_mlops.cli.options import ChosenWorkloadOption, JsonOption, RunLocation, SetOption, filled
from vision_mlops.cli.output import emit, emit_table, say
from vision_mlops.core import paths

if TYPE_CHECKING:
    from vision_mlops.jobs.azureml.azure_records import ScheduleRecord


app = typer.Typer(no_args_is_help=True)
schedule_app = typer.Typer(no_args_is_help=True, help="Create, list, pause, resume and delete schedules on Azure ML.")
app.add_typer(schedule_app, name="schedule")

NameArgument = Annotated[str, typer.Argument(callback=filled, metavar="SCHEDULE", help="Name of the schedule.")]
OwnerOption = Annotated[
    str, typer.Option("--workload", "-w", help="Workload that it belongs to, for `mlops down`.", show_default=False)
]
EnvironmentOption = Annotated[
    Path | None,
    typer.Option(
        "--environment", help="YAML file of the environment.", show_default="environments/train.yml of the project"
    ),
]


@app.command()
def watch(
    data: Annotated[Path, typer.Option(help="Folder of class folders to watch.")],
    workload: ChosenWorkloadOption = None,
    set_: SetOption = None,
    pipeline: PipelineOption = None,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between two checks.")] = 5.0,
    settle: Annotated[float, typer.Option(min=0.0, help="Seconds without a change before a run starts.")] = 30.0,
    once: Annotated[bool, typer.Option("--once", help="Check once and exit, for use in a scheduled task.")] = False,
) -> None:
    """Run the training pipeline whenever the content of a folder of images has changed, one run at a time.

    `outputs/watch` records what was trained on, so a restart does not train again. A failed run is not repeated until the
    images change. Each run ends with the verdict of the gate; if it is not promote, the champion stays, and the exit code of
    `--once` is 1. Without `--workload`, the workload in `workloads/` that names the folder is used.

    Example: `mlops pipeline watch --data photos/birds`
    """
    from vision_mlops.cli.jobs.own_code_trial import try_metrics
    from vision_mlops.cli.jobs.run import run_pipeline, workload_for
    from vision_mlops.cli.jobs.run_verdict import exit_code, run_verdict, tell
    from vision_mlops.jobs.local.engine.image_watch import PollIntervals, Watch
    from vision_mlops.jobs.local.state.job_display import duration
    from vision_mlops.jobs.local.state.job_state import Status

    loaded = workload_for(workload, data, set_ or ())
    file, rejected = pipeline_file(pipeline), False

    def train(fingerprint: str) -> bool:
        nonlocal rejected
        ended = run_pipeline(loaded, data, pipeline=file)
        say(f"job {ended.state.name}: {ended.state.status.value.lower()} after {duration(ended.state.seconds)}")
        if ended.state.status is not Status.COMPLETED:
            return False
        verdict = run_verdict(ended.state.outputs, loaded.name)
        tell(verdict)
        rejected = bool(exit_code(verdict))
        return True

    memory = paths.home() / "watch" / f"{loaded.name}.json"
    read_pipeline(file).changes(
        loaded, data, RunLocation.LOCAL
    )  # a pipeline that cannot take the images is refused at once
    try_metrics(loaded, data)
    watching = Watch(data, memory, train, rhythm=PollIntervals(poll, settle), say=say)
    if not once:
        watching.forever()
        return
    good = watching.once()
    if good is None:
        say("the images are those of the last run")
    elif not good or rejected:
        raise typer.Exit(1)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Azure ML v2 YAML file of a pipeline component.")],
    endpoint: Annotated[
        str,
        typer.Option(
            "--endpoint", "-e", help="Batch endpoint, created if it does not exist; unique in the Azure region."
        ),
    ],
    deployment: Annotated[
        str, typer.Option("--deployment", "-d", help="Deployment of the endpoint, which becomes the default.")
    ] = "default",
    compute: Annotated[
        str | None,
        typer.Option(help="Cluster that runs the steps.", show_default="the CPU cluster of the settings"),
    ] = None,
    environment: EnvironmentOption = None,
    workload: OwnerOption = "",
    skip_checks: SkipChecks = False,
    json_: JsonOption = False,
) -> None:
    """Register a pipeline component and deploy it to a batch endpoint; the same command again changes nothing.

    Example: `mlops pipeline publish src/vision_mlops/jobs/pipelines/train-component.yml --endpoint vision-train`
    """
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.jobs.azureml.published_pipelines import publish as run

    place = AzureSettings.load()
    found = run(
        file, endpoint, deployment, place, compute=compute, environment_file=environment, say=say,
        workload=workload, before=lambda: check_first("publish", skip=skip_checks, settings=place),
    )  # fmt: skip
    state = "published" if found.changed else "unchanged"
    text = f"{state}: {found.component} as {found.deployment} of {found.endpoint}"
    emit(found.to_dict(), text, as_json=json_)
    if not json_:
        say(f"start it with: mlops pipeline trigger {found.endpoint}")


app.command()(trigger.trigger)


@schedule_app.command("create")
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Azure ML v2 YAML file of a schedule.")],
    environment: EnvironmentOption = None,
    workload: OwnerOption = "",
    json_: JsonOption = False,
) -> None:
    """Create a schedule, or update the existing one of the same name.

    Example: `mlops pipeline schedule create src/vision_mlops/jobs/pipelines/schedule-recurrence.yml`
    """
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.jobs.azureml.schedules import create as run

    _emit(run(file, AzureSettings.load(), environment_file=environment, say=say, workload=workload), as_json=json_)


@schedule_app.command("list")
def list_(json_: JsonOption = False) -> None:
    """List the schedules of the workspace, including paused ones.

    Example: `mlops pipeline schedule list`
    """
    from vision_mlops.jobs.azureml.schedules import list_schedules

    rows = [schedule.to_dict() for schedule in list_schedules(workspace_client())]
    emit_table(rows, as_json=json_, empty="no schedules yet: mlops pipeline schedule create FILE")


@schedule_app.command()
def pause(name: NameArgument, json_: JsonOption = False) -> None:
    """Pause a schedule until it is resumed.

    Example: `mlops pipeline schedule pause vision-mlops-train-weekly`
    """
    from vision_mlops.jobs.azureml.schedules import pause as run

    _emit(run(workspace_client(), name), as_json=json_)


@schedule_app.command()
def resume(name: NameArgument, json_: JsonOption = False) -> None:
    """Resume a paused schedule.

    Example: `mlops pipeline schedule resume vision-mlops-train-weekly`
    """
    from vision_mlops.jobs.azureml.schedules import resume as run

    _emit(run(workspace_client(), name), as_json=json_)


@schedule_app.command()
def delete(name: NameArgument, json_: JsonOption = False) -> None:
    """Delete a schedule; jobs that it started continue.

    Example: `mlops pipeline schedule delete vision-mlops-train-weekly`
    """
    from vision_mlops.jobs.azureml.schedules import delete as run

    run(workspace_client(), name)
    emit({"name": name, "deleted": True}, f"{name}: deleted", as_json=json_)


def _emit(schedule: ScheduleRecord, *, as_json: bool) -> None:
    text = f"{schedule.name}: {'enabled' if schedule.enabled else 'paused'}, {schedule.trigger}"
    emit(schedule.to_dict(), text, as_json=as_json)
