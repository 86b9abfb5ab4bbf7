"""``mlops job``: check, show and run Azure ML v2 definitions, and manage the jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.azure.checks_first import SkipChecks
from vision_mlops.cli.jobs.on_this_machine import local_options, report
from vision_mlops.cli.options import DryRunOption, JsonOption, OnOption, RunLocation, filled
from vision_mlops.cli.output import emit, emit_json, emit_table, interruptible, say
from vision_mlops.core.text import counted
from vision_mlops.jobs.local.environments.environment_contract import EnvironmentMode

if TYPE_CHECKING:
    from vision_mlops.jobs.definitions.definition import Definition
    from vision_mlops.jobs.local.state.job_state import JobState

app = typer.Typer(no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(callback=filled, metavar="JOB", help="Name of a job, as `mlops job list` shows it.")
]
ChangeOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the definition: `inputs.seed=3`. Repeatable."),
]
JobsOption = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Maximum number of parallel steps on this machine.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run every step, even if nothing has changed.")]
EnvironmentOption = Annotated[
    EnvironmentMode,
    typer.Option(
        "--environment",
        help="On this machine, run steps in virtual environments made from their conda files (`auto`), in this Python"
        " (`host`), or in the images of their environments (`docker`).",
    ),
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="With --on azure: follow the job to its end, or only submit it.")
]


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Azure ML v2 YAML files of any kind.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 2 on warnings, too.")] = False,
    json_: JsonOption = False,
) -> None:
    """Check definitions and the components that they point to; exit with code 2 if one has an error.

    Errors are what Azure ML refuses, warnings what it tolerates; warnings alone give exit code 0. The linter finds wrong
    names, types, values, bindings and paths, and needs no Azure account. docs/lint_rules.md lists all rules.

    Example: `mlops job lint src/vision_mlops/jobs/pipelines/train.yml`
    """
    from vision_mlops.config.workload import Workload
    from vision_mlops.jobs.definitions.linter.linter import lint as run

    findings = run(files, Workload.model_fields, _ask_sdk)
    errors = len(findings.errors)
    if json_:
        emit_json(list(findings))
    else:
        for finding in findings:
            typer.echo(str(finding))
    if not findings:
        say(f"ok: {counted(len(files), 'file')} without findings")
    else:
        say(f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    if errors or (strict and findings):
        raise typer.Exit(2)


def _ask_sdk(definition: Definition) -> list[tuple[str, tuple[str | int, ...]]]:
    from vision_mlops.jobs.azureml.sdk_check import is_installed, sdk_problems

    return sdk_problems(definition) if is_installed() else []


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Azure ML v2 YAML file of a job or component.")],
    json_: JsonOption = False,
) -> None:
    """Show the steps of a job file in the order in which they can run, with inputs and outputs; `--json` adds the commands.

    Example: `mlops job show src/vision_mlops/jobs/pipelines/train.yml`
    """
    from vision_mlops.jobs.definitions.plan.planner import plan

    steps = plan(file)
    rows = [
        {
            "step": step.step,
            "type": step.type,
            "component": step.component,
            "inputs": "\n".join(f"{name} = {value}" for name, value in step.inputs.items()),
            "outputs": "\n".join(f"{name} = {value}" for name, value in step.outputs.items()),
        }
        for step in steps
    ]
    emit_table(rows, as_json=json_, content=steps)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Azure ML v2 YAML file of a job.")],
    on: OnOption = RunLocation.LOCAL,
    set_: ChangeOption = None,
    name: Annotated[str | None, typer.Option(callback=filled, help="Job name.", show_default="new")] = None,
    jobs: JobsOption = 2,
    force: ForceOption = False,
    environment: EnvironmentOption = EnvironmentMode.AUTO,
    wait: WaitOption = True,
    skip_checks: SkipChecks = False,
    json_: JsonOption = False,
) -> None:
    """Run a job: its steps as processes on this machine, or on Azure ML. Exit with code 1 if a step fails.

    A step whose definition, code, parameters and inputs have not changed since it last succeeded is reused.

    Example: `mlops job run src/vision_mlops/jobs/pipelines/train.yml --set inputs.seed=1`
    """
    if on is RunLocation.AZURE:
        from vision_mlops.cli.jobs.on_azure import refuse_options_of_this_machine, report_azure, run_on_azure

        refuse_options_of_this_machine(environment, jobs)
        changes = [*(set_ or ()), *(["settings.force_rerun=true"] if force else [])]
        job = run_on_azure(file, changes, name, wait=wait, skip_checks=skip_checks)
        report_azure(job, as_json=json_, waited=wait)
        return
    from vision_mlops.jobs.local.engine.local_jobs import run_job

    with interruptible():
        ended = run_job(file, set_ or (), name=name, options=local_options(jobs, force, json_, environment))
    report(ended, as_json=json_)


@app.command()
def resume(name: NameArgument, jobs: JobsOption = 2, json_: JsonOption = False) -> None:
    """Continue a local job that was interrupted, was canceled or failed; steps that succeeded are kept.

    Example: `mlops job resume train-20261124-061502-3fa2`
    """
    from vision_mlops.jobs.local.engine.local_jobs import resume_job

    with interruptible():
        ended = resume_job(name, options=local_options(jobs, False, json_))
    report(ended, as_json=json_)


@app.command("list")
def list_(on: OnOption = RunLocation.LOCAL, json_: JsonOption = False) -> None:
    """List jobs, the newest first.

    Example: `mlops job list`
    """
    if on is RunLocation.AZURE:
        from vision_mlops.cli.jobs.on_azure import workspace_client
        from vision_mlops.jobs.azureml.azure_jobs import list_jobs

        remote = list_jobs(workspace_client())
        keys = ("name", "status", "type", "experiment", "created")
        shown = [{key: getattr(job, key) for key in keys} for job in remote]
        full = [job.to_dict() for job in remote]
        emit_table(shown, as_json=json_, content=full, empty="no jobs yet: mlops job run FILE --on azure")
        return
    from vision_mlops.jobs.local.state.job_display import duration
    from vision_mlops.jobs.local.state.job_state import jobs

    found = jobs()
    rows = [{**_row(state), "seconds": duration(state.seconds)} for state in found]
    emit_table(rows, as_json=json_, content=[*map(_row, found)], empty="no jobs yet: mlops job run FILE")


@app.command()
def logs(
    name: NameArgument,
    step: Annotated[str | None, typer.Argument(callback=filled, metavar="STEP", help="Print only this step.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing while the job runs.")] = False,
    on: OnOption = RunLocation.LOCAL,
) -> None:
    """Print the output of the steps of a job; a job on Azure ML is always followed to its end.

    Example: `mlops job logs train-20261124-061502-3fa2 train --follow`
    """
    if on is RunLocation.AZURE:
        from vision_mlops.cli.jobs.on_azure import workspace_client
        from vision_mlops.jobs.azureml.azure_jobs import stream

        stream(workspace_client(), name, on_line=typer.echo)
        return
    from vision_mlops.jobs.local.engine.local_jobs import job_logs

    for each, line in job_logs(name, step, follow=follow):
        typer.echo(line if step else f"{each} | {line}")


@app.command()
def cancel(
    name: NameArgument,
    on: OnOption = RunLocation.LOCAL,
    if_running: Annotated[
        bool, typer.Option("--if-running", help="Exit with code 0 even if the job has ended or was never started.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Cancel a running job and its steps. `mlops job resume` continues a local one.

    Example: `mlops job cancel train-20261124-061502-3fa2`
    """
    if on is RunLocation.AZURE:
        from vision_mlops.cli.jobs.on_azure import cancel_azure

        cancel_azure(name, as_json=json_, if_running=if_running)
        return
    from vision_mlops.jobs.local.engine.local_jobs import cancel_job
    from vision_mlops.jobs.local.state.job_state import jobs

    if if_running and not any(state.name == name and not state.status.over for state in jobs()):
        say(f"job {name} is not running: nothing to cancel")
        return
    state = cancel_job(name)
    emit(state.to_dict(), f"{state.name}: {state.status.value.lower()}", as_json=json_)


@app.command()
def prune(
    days: Annotated[
        float,
        typer.Option(min=0.0, help="Remove what is older than this; 0 removes everything that has ended."),
    ],
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove old local jobs, cached results that no other job uses, and virtual environments in which no step has started
    since; models and MLflow runs are kept.

    Example: `mlops job prune --days 30 --dry-run`
    """
    from vision_mlops.jobs.local.engine.pruning import prune as run

    found = run(days, dry_run=dry_run)
    if json_:
        emit_json(found)
        return
    for name in found.jobs:
        typer.echo(name)
    numbers = [counted(len(found.jobs), "job"), counted(found.results, "cached result")]
    numbers += [counted(found.environments, "virtual environment")] if found.environments else []
    what = f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    say(f"{what} {'would be removed' if dry_run else 'removed'}: {found.size / 2**20:.1f} MB")


@app.command()
def download(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, which must not exist.")],
    outputs: Annotated[
        list[str] | None, typer.Option("--output", help="Output to download. Repeatable.", show_default="all")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Download outputs of a job on Azure ML, completely or not at all.

    Example: `mlops job download train-20261124-061502-3fa2 --out results`
    """
    from vision_mlops.cli.jobs.on_azure import download_azure

    download_azure(name, outputs or (), out, as_json=json_)


def _row(state: JobState) -> dict[str, Any]:
    from vision_mlops.jobs.local.state.job_state import Status

    done = sum(step.status.succeeded for step in state.steps.values())
    reused = sum(step.status is Status.REUSED for step in state.steps.values())
    return {
        "name": state.name,
        "status": state.status.value,
        "steps": f"{done}/{len(state.steps)}" + (f" ({reused} reused)" if reused else ""),
        "created": state.created,
        "seconds": round(state.seconds, 1),
        "definition": state.definition,
    }
