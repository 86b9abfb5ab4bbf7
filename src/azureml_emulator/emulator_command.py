"""The command line ``python -m azureml_emulator``: run an emulator, alone or around a command, or print its variables."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from azureml_emulator.leftovers import end_leftovers
from azureml_emulator.process_commands import MARK
from azureml_emulator.rest.fault_expressions import FORM, parse_fault
from azureml_emulator.state_folder import EmulatorError, StateFolder
from azureml_emulator.storage.azurite import AzuriteError

DEFAULT_PORT = 10800
_LARGEST_PORT = 65535
_WORKSPACE = re.compile(r"[A-Za-z0-9][\w-]{1,32}", re.ASCII)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: that of the given command; otherwise 0, or 2 if something cannot be done.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] | None = None
    if "--" in words:
        words, command = words[: words.index("--")], words[words.index("--") + 1 :]
    try:
        options = _parser().parse_args(words)
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    state = StateFolder(options.state)
    try:
        if options.env:
            if command is not None or options.fault or options.workspace:
                raise EmulatorError(
                    "--env needs a running emulator: it cannot be combined with --fault, --workspace or a command\n"
                    "  -> give --env and --state alone"
                )
            from azureml_emulator.client_variables import as_shell, client_variables, default_variables

            _print(as_shell(client_variables(state, state.port()), default_variables()))
            return 0
        return _run(state, options, command)
    except (EmulatorError, AzuriteError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:  # a second one, while everything is being ended
        end_leftovers(state.path)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise EmulatorError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m azureml_emulator",
        description="Run Azure Machine Learning and related services on this machine.",
        epilog="With -- COMMAND, run COMMAND with the variables that point it at the emulator, and end with its exit code.",
    )
    parser.add_argument("--state", type=Path, default=Path("outputs/emulator"), help="keep the state in this folder")
    parser.add_argument(
        "--port",
        type=_port,
        help=f"listen at this port as a proxy; 0 for any free one (default {DEFAULT_PORT}; any with a command)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_fault,
        help=f"make calls fail: {FORM}, such as 'PUT .*/jobs/.* 503 x2'",
    )
    parser.add_argument(
        "--workspace",
        action="append",
        default=[],
        type=_workspace,
        help="create this workspace too if the state does not have it, such as one for prod; may be given several times",
    )
    parser.add_argument(
        "--env", action="store_true", help="print the variables for clients of the running emulator, for a shell"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > _LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port\n  -> give a number from 0 to {_LARGEST_PORT}")
    return int(text)


def _workspace(text: str) -> str:
    if not _WORKSPACE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be the name of a workspace\n  -> use 2 to 33 letters, digits, hyphens and underscores"
        )
    return text


def _fault(text: str) -> object:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _run(state: StateFolder, options: argparse.Namespace, command: list[str] | None) -> int:
    started = time.monotonic()
    if command is not None and (not command or shutil.which(command[0]) is None):
        what = f"the command {command[0]!r} was not found" if command else "no command follows --"
        raise EmulatorError(f"{what}\n  -> give one after --, such as: -- mlops run --on azure")
    port = options.port if options.port is not None else (0 if command else DEFAULT_PORT)
    stopping = _StopSignals()
    from azureml_emulator.running_emulator import running_emulator

    with running_emulator(state, port, options.fault, options.workspace) as found:
        from azureml_emulator.client_variables import IN_THE_WAY, client_variables, default_variables

        if command is None:
            _print(f"ready after {time.monotonic() - started:.1f} s at http://127.0.0.1:{found}, state in {state.path}")
            _print(
                f"  http://127.0.0.1:{found}   shows jobs and endpoints in a browser; it is also the proxy of clients"
            )
            given = shlex.quote(str(state.path))
            _print(f'  eval "$(mlops azure emulate --state {given} --env)"   makes clients use it; Ctrl-C stops it')
            stopping.wait()
            return 0
        hidden = {*IN_THE_WAY, MARK}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment = {**default_variables(), **environment, **client_variables(state, found)}
        return stopping.wait_for(subprocess.Popen(command, env=environment))


class _StopSignals:
    """Signals that end the emulator: Ctrl-C, a termination, a closed terminal. A second Ctrl-C interrupts the end."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def wait(self) -> None:
        """Wait for a signal."""
        while not self._asked.wait(0.2):
            pass

    def wait_for(self, child: subprocess.Popen[bytes]) -> int:
        """Wait until a command has ended; return its exit code. Ctrl-C also reaches it; other signals are passed on."""
        self._child = child
        while True:
            try:
                code = child.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            self._child = None
            return code if code >= 0 else 128 - code

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._child is not None:
            if number != signal.SIGINT:
                self._child.send_signal(number)
        elif self._asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked.set()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201
