"""``mlops devops init``: create what Azure DevOps, or GitHub, needs before the pipelines of a project run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.options import DryRunOption, JsonOption, YesOption
from vision_mlops.cli.output import confirm, emit_table, say, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from vision_mlops.devops.setup.setup_run import SetupRow


def init(
    organization: Annotated[
        str,
        typer.Option(help="Address of the organization, such as `https://dev.azure.com/contoso`."),
    ] = "",
    project: Annotated[str, typer.Option(help="Project in Azure DevOps.")] = "",
    repository: Annotated[
        str,
        typer.Option(help="Git repository in the project.", show_default="named like the project"),
    ] = "",
    branch: Annotated[str, typer.Option(help="Branch that the pipelines are read from.")] = "main",
    environments: Annotated[
        str, typer.Option(help="Environments, separated by commas; the settings of each are in `.env.NAME`.")
    ] = "dev,prod",
    approver: Annotated[
        list[str] | None,
        typer.Option(help="Person who approves deployments to all environments but the first. Repeatable."),
    ] = None,
    github: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Also let workflows of this repository deploy.")
    ] = "",
    root: Annotated[Path, typer.Option(help="Folder of the project, with `ado_pipelines`.")] = Path(),
    dry_run: DryRunOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Like --dry-run; exit with code 1 if anything is missing.")
    ] = False,
    yes: YesOption = False,
    push: Annotated[bool, typer.Option("--push", help="Push the current commit if the repository is empty.")] = False,
    json_: JsonOption = False,
) -> None:
    """Create what the pipelines refer to: project, repository, pipelines, service connections, environments, permissions.

    What exists is not changed. The plan is shown first; exit code 1 if a person has to do something first.

    Example: `mlops devops init --organization https://dev.azure.com/contoso --project vision --approver ann@contoso.com`
    """
    from vision_mlops.devops.setup.setup_part import Standing
    from vision_mlops.devops.setup.setup_plan import SetupRequest
    from vision_mlops.devops.setup.setup_run import look, make, of_standing
    from vision_mlops.devops.setup.setup_session import open_setup

    request = SetupRequest(root, environments, organization, project, repository, branch, tuple(approver or ()), github)
    with open_setup(request, warn) as session:
        rows = look(session.parts())
        _show(rows, check=check, as_json=json_)
        todo = of_standing(rows, Standing.CREATE, Standing.DIFFERS)
        stopped = of_standing(rows, Standing.BLOCKED)
        _explain(stopped, say)
        _explain(of_standing(rows, Standing.LATER), warn)
        if check:
            if len(of_standing(rows, Standing.EXISTS)) < len(rows):
                say("fix: run the same command without --check to create what is missing")
                raise typer.Exit(1)
            say(f"all {len(rows)} parts exist")
            return
        if stopped:
            raise typer.Exit(1)
        if not todo:
            say(f"nothing to do: {len(of_standing(rows, Standing.EXISTS))} of {len(rows)} parts exist")
        elif dry_run:
            say(f"{len(todo)} of {len(rows)} would be created or changed; nothing was changed")
        else:
            confirm(
                f"Create or change {len(todo)} of {len(rows)} parts?", yes=yes, declined="nothing was created",
                hint="add --yes after a look at the plan, or --dry-run for the plan alone",
            )  # fmt: skip
            made = make(rows, say)
            say(f"created or changed {len(made)}; {len(rows) - len(made)} existed")
        pushed = push and session.is_empty and not dry_run
        if pushed:
            say(f"pushed to {session.push()}")
        elif session.is_empty:
            say("the repository is empty; pipelines run once it has their YAML (--push, or the commands below)")
        for line in session.commands(pushed=pushed):
            typer.echo(line, err=json_)


def _show(rows: list[SetupRow], *, check: bool, as_json: bool) -> None:
    content = [{**row.to_dict(), "fix": row.finding.fix} for row in rows]
    shown = [row.to_dict() for row in rows if not (check and row.finding.standing == "exists")]
    emit_table(shown, as_json=as_json, content=content, empty="nothing is missing")


def _explain(rows: list[SetupRow], told: Callable[[str], None]) -> None:
    """Say what a person has to do about each part; what only follows from another part is left out."""
    for row in rows:
        if row.finding.detail:
            told(f"{row.part.label}: {row.finding.detail}\n  -> {row.finding.fix}")
