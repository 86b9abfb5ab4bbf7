"""Entry point of ``mlops``: assembles the command groups and turns errors into one line and an exit code.

Exit code 0 means success, 1 a failed job or a verdict that was asked to fail, 2 a mistake in the input.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from vision_mlops import __version__
from vision_mlops.cli import commands, standard_streams
from vision_mlops.cli.output import GlobalOptions, fail, say
from vision_mlops.core import library_settings
from vision_mlops.core.errors import MlopsError, in_plain_words, missing_extra
from vision_mlops.tracking import mlflow_import


class _Group(typer.core.TyperGroup):
    """The commands; a value that an option does not accept is refused in plain words, not in those of pydantic."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the words name."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            from pydantic import ValidationError

            if isinstance(error.__cause__, ValidationError):
                error.message = in_plain_words(error.__cause__.errors(include_url=False)[0])[0]
            raise


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mlops {__version__}")
        raise typer.Exit


def _root(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show tracebacks and messages of libraries.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    library_settings.apply()
    GlobalOptions.verbose = verbose
    if verbose:
        logging.basicConfig()
    logging.getLogger("vision_mlops").setLevel(logging.DEBUG if verbose else logging.NOTSET)


def command_line(words: Iterable[str] | None = None) -> typer.Typer:
    """Build the command line for some words: with the command that they name, or with the names of all commands only.

    Args:
        words: The arguments; without them, all commands are loaded.
    """
    app = typer.Typer(
        name="mlops",
        cls=_Group,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        help="Train, judge, register and serve an image classifier: on this machine, then on Azure.",
        epilog="Start with `mlops demo`.",
    )
    app.callback()(_root)
    named = None if words is None else _named(words)
    if named is None:
        commands.add_commands(app, commands.COMMANDS)
    elif named in commands.COMMANDS:
        commands.add_commands(app, [named])
    else:
        commands.add_names(app)
    return app


def _named(words: Iterable[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")


_whole = functools.cache(command_line)


def __getattr__(name: str) -> typer.Typer:
    """Load ``app``, with all commands, when it is asked for."""
    if name == "app":
        return _whole()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    standard_streams.prepare()
    atexit.register(_end_on_ctrl_c)
    atexit.register(gc.freeze)  # otherwise Python collects garbage among everything that was loaded before it exits
    try:
        code = _exit_code()
    except KeyboardInterrupt:  # a second one, while the first is reported
        code = 130
    except OSError as error:  # of standard error
        gone = isinstance(error, BrokenPipeError)
        if GlobalOptions.verbose and not gone:
            raise
        code = standard_streams.BROKEN_PIPE if gone else 2
    with contextlib.suppress(OSError, KeyboardInterrupt):  # what could not be written is dropped
        standard_streams.finish()
    sys.exit(code)


def _end_on_ctrl_c() -> None:
    """Let Ctrl-C end the process at once, with its usual exit code, while Python exits: no code can catch it any more."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


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
    except BrokenPipeError:  # the reader is gone
        raise
    except RuntimeError as error:
        if GlobalOptions.verbose or "home directory" not in str(error):
            raise
        fail("a path starts with ~, but the home folder is unknown\n  -> give the full path, or set HOME")
    except OSError as error:  # a full disk, a folder that may not be written
        if GlobalOptions.verbose:
            raise
        fail(f"{_problem_of(error)}\n  -> check the path, its permissions and the free space")
    return 2


def _problem_of(error: OSError) -> str:
    """Say what is wrong, with the folder in place of a file that cannot be created in it, which may be a temporary one."""
    path = error.filename
    if not isinstance(path, str) or not error.strerror:
        return str(error)
    folder = Path(path).absolute().parent
    if error.errno in (errno.EACCES, errno.EROFS) and os.access(folder, os.X_OK) and not os.path.lexists(path):
        return f"the folder {folder} cannot be written: {error.strerror}"
    return f"{path}: {error.strerror}"


def _run() -> int:
    """Run the command and return its exit code, with which Typer ends the process."""
    completes = (
        "_MLOPS_COMPLETE" in os.environ
    )  # the shell asks for completions, and passes the words in another variable
    with library_settings.loading():
        app = command_line(None if completes else sys.argv[1:])
        run = typer.main.get_command(app)
    lean = contextlib.nullcontext() if _named(sys.argv[1:]) in commands.RUN_CODE else mlflow_import.records_only()
    try:
        with lean:
            run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
