"""``mlops azure emulate``: Azure on this machine. The emulator is a separate program, which this command becomes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.core import paths
from vision_mlops.core.errors import require

app = typer.Typer(no_args_is_help=True)
_PROGRAM = "azureml_emulator"


@app.command()
def emulate(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND", help="Run this command with the variables set, and exit with its exit code."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the proxy; 0 takes a free one.",
            show_default="10800; with a command, a free one",
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder that holds the state.", show_default="outputs/emulator")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'METHOD PATTERN WHAT [xN]'",
            help="Make the next N calls fail: with a status, or drop, or lose. Repeatable.",
        ),
    ] = None,
    workspace: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also create this workspace, such as one for prod. Repeatable."),
    ] = None,
    env: Annotated[
        bool, typer.Option("--env", help="Print the variables that point a shell at the running emulator.")
    ] = False,
) -> None:
    """Emulate Azure Machine Learning and the services around it: submitted jobs run, and deployments score images.

    Environment variables direct clients to it: an HTTPS proxy on this machine serves Azure's host names, and refuses
    all others. The folder keeps its state between runs. src/azureml_emulator/README.md says what is emulated.

    Example: `mlops azure emulate`, and in another terminal `eval "$(mlops azure emulate --env)"` and `mlops run --on azure`;
    or all in one: `mlops azure emulate -- mlops run --on azure`
    """
    require("uvicorn")
    words = ["--state", str(state or paths.home() / "emulator")]
    words += ["--port", str(port)] if port is not None else []
    for expression in fault or []:
        words += ["--fault", expression]
    for name in workspace or []:
        words += ["--workspace", name]
    words += ["--env"] if env else []
    words += ["--", *command] if command else []
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _PROGRAM, *words])
