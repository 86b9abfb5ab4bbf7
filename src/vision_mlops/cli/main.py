"""Entry point of ``mlops``: assembles the command groups and turns errors into one line and an exit code.

0 is success, 1 a job that ended badly or a verdict asked to fail, 2 a mistake in the input.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Annotated

import typer

from vision_mlops import __version__
from vision_mlops.cli import (
    batch,
    commands,
    config,
    demo,
    deploy,
    endpoint,
    evaluate,
    export,
    gate,
    models,
    new,
    predict,
    rollout,
    serve,
    train,
)
from vision_mlops.cli.data import data
from vision_mlops.cli.jobs import assets, job, pipeline, run
from vision_mlops.cli.output import GlobalOptions
from vision_mlops.core.errors import MissingExtraError, MlopsError

_REQUIREMENT = re.compile(r"""([\w.-]+).*\bextra == ["'](\w+)["']""")
"""A requirement of an extra, as the metadata of the installed package writes it: name and extra."""
_PACKAGES = {"sklearn": "scikit-learn"}
"""Packages whose name is not that of their module."""

app = typer.Typer(
    name="mlops",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train, judge, register and serve an image classifier: on this machine, then on Azure.",
    epilog="Start with `mlops demo`.",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mlops {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks and library messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    GlobalOptions.verbose = verbose
    if verbose:
        logging.basicConfig()
    logging.getLogger("vision_mlops").setLevel(logging.DEBUG if verbose else logging.NOTSET)


app.command("new")(new.new)
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("gate")(gate.gate)
app.command("export")(export.export)
app.add_typer(models.app, name="models")
app.add_typer(job.app, name="job")
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(assets.app, name="assets")
app.command("run")(run.run)
app.command("serve")(serve.serve)
app.command("deploy")(deploy.deploy)
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(rollout.app, name="rollout")
app.add_typer(batch.app, name="batch")
app.command("demo")(demo.demo)
commands.name_all(app)


def missing_extra(module: str) -> MissingExtraError | None:
    """The error for a module that is not installed, by the extra that brings it; None where no extra of ours does."""
    from importlib.metadata import PackageNotFoundError, requires

    top = module.partition(".")[0].replace("_", "-").lower()
    if top == "vision-mlops":  # which the extras name, too
        return None
    names = (_PACKAGES.get(top, top), f"python-{top}")
    try:
        declared = requires("vision-mlops") or []
    except PackageNotFoundError:  # the source, which is not installed
        return None
    found = [match for match in map(_REQUIREMENT.match, declared) if match]
    for package, extra in ((match[1].replace("_", "-").lower(), match[2]) for match in found):
        if package in names or package.startswith(f"{top}-"):
            return MissingExtraError(package if package in names else top, extra)
    return None


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    try:
        app()
    except ModuleNotFoundError as error:
        missing = missing_extra(error.name or "")
        if GlobalOptions.verbose or missing is None:
            raise
        typer.secho(f"error: {missing}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    except MlopsError as error:
        if GlobalOptions.verbose:
            raise
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written
        if GlobalOptions.verbose:
            raise
        typer.secho(
            f"error: {error}\n  -> check the path, its permissions and the free space", err=True, fg=typer.colors.RED
        )
        sys.exit(2)
