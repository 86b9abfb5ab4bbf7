"""``mlops job``: check and show Azure ML v2 definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.config import JsonOption
from vision_mlops.cli.output import emit_json, emit_table, say

app = typer.Typer(no_args_is_help=True, help="Check and show jobs, components and schedules in Azure ML v2 YAML.")


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Azure ML v2 YAML files of any kind.")],
    json_: JsonOption = False,
) -> None:
    """Check definitions and the components they point to; exit code 2 where one has an error.

    Warnings alone give exit code 0. It finds wrong names, types, values, bindings and paths, and needs no Azure account.

    Example: `mlops job lint src/vision_mlops/pipeline/train.yml`
    """
    from vision_mlops.pipeline.lint import lint as run

    findings = run(files)
    errors = len(findings.errors)
    if json_:
        emit_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            typer.echo(str(finding))
    if not findings:
        say(f"ok: {len(files)} file{'s' if len(files) > 1 else ''} without findings")
    else:
        say(f"{errors} error{'' if errors == 1 else 's'}, {len(findings) - errors} warnings")
    if errors:
        raise typer.Exit(2)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Azure ML v2 YAML file of a job or component.")],
    json_: JsonOption = False,
) -> None:
    """Show the steps of a job in the order they can run, with their inputs and outputs; `--json` adds the commands.

    Example: `mlops job show src/vision_mlops/pipeline/train.yml`
    """
    from vision_mlops.pipeline.plan import plan

    steps = plan(file)
    if json_:
        emit_json([step.to_dict() for step in steps])
        return
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
    emit_table(rows, as_json=False)
