"""Entry point of ``mlops``: assembles the command groups and turns errors into one line and an exit code.

0 is success, 1 a job that ended badly or a verdict asked to fail, 2 a mistake in the input.
"""

from __future__ import annotations

import contextlib
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
    new,
    predict,
    rollout,
    serve,
    standard_streams,
    train,
)
from vision_mlops.cli.app import app as app_group
from vision_mlops.cli.azure import doctor, down, emulate, environments
from vision_mlops.cli.benchmark import benchmark
from vision_mlops.cli.data import data
from vision_mlops.cli.devops import devops
from vision_mlops.cli.jobs import assets, job, pipeline, run
from vision_mlops.cli.models import models
from vision_mlops.cli.output import GlobalOptions, fail, say
from vision_mlops.core import library_settings
from vision_mlops.core.errors import MissingExtraError, MlopsError

_REQUIREMENT = re.compile(r"""([\w.-]+).*\bextra == ["'](\w+)["']""")
"""A requirement of an extra, as the metadata of the installed package writes it: name and extra."""
_PACKAGES = {"jwt": "pyjwt", "sklearn": "scikit-learn"}
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
    library_settings.apply()
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
app.add_typer(app_group.app, name="app")
app.add_typer(emulate.app, name="azure")
app.add_typer(environments.app, name="env")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(devops.app, name="devops")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("down")(down.down)
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
    standard_streams.prepare()
    try:
        code = _exit_code()
    except OSError as error:  # of standard error
        gone = isinstance(error, BrokenPipeError)
        if GlobalOptions.verbose and not gone:
            raise
        code = standard_streams.BROKEN_PIPE if gone else 2
    with contextlib.suppress(OSError):  # what could not be told is dropped
        standard_streams.finish()
    sys.exit(code)


def _exit_code() -> int:
    try:
        code = _run()
        standard_streams.finish()
        return code
    except ModuleNotFoundError as error:
        missing = missing_extra(error.name or "")
        if GlobalOptions.verbose or missing is None:
            raise
        fail(str(missing))
    except MlopsError as error:
        if GlobalOptions.verbose:
            raise
        fail(str(error))
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:  # nobody reads any more
        raise
    except RuntimeError as error:
        if GlobalOptions.verbose or "home directory" not in str(error):
            raise
        fail("a path starts with ~, and that home folder is not known\n  -> give the whole path, or set HOME")
    except OSError as error:  # a full disk, a folder that may not be written
        if GlobalOptions.verbose:
            raise
        fail(f"{error}\n  -> check the path, its permissions and the free space")
    return 2


def _run() -> int:
    """The command's exit code: Typer ends the process with it."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
