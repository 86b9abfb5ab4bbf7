"""``mlops devops``: the group of commands about pipelines of Azure DevOps."""

from __future__ import annotations

import typer

from vision_mlops.cli.devops import init, start

app = typer.Typer(no_args_is_help=True, help="Set Azure DevOps up for the pipelines of a project, and start them.")


app.command()(init.init)
app.command()(start.start)
