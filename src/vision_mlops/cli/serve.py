"""``mlops serve``: run the scoring server in the foreground."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle
from vision_mlops.cli.options import PrecisionOption, WorkersOption, filled
from vision_mlops.cli.output import say, warn
from vision_mlops.core.errors import ServingError
from vision_mlops.core.listening import LOOPBACK

if TYPE_CHECKING:
    from vision_mlops.serving.access_keys import AccessKeys


def _port(text: str) -> int:
    """Read a port. Raises BadParameter, with the fix for what Kubernetes sets by itself."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    problem = f"{text[:80]!r} is not a whole number from 0 to 65535"
    if "://" in text:
        problem += (
            "; Kubernetes sets MLOPS_PORT to such an address if a service is called mlops: set MLOPS_PORT to the port"
            " in the container, set enableServiceLinks: false, or rename the service"
        )
    raise typer.BadParameter(problem)


def serve(
    bundle: Annotated[
        str | None,
        typer.Argument(
            callback=filled,
            help=f"{BUNDLE_HELP[:-1]} that contains a bundle, at most two levels down.",
            show_default="MLOPS_BUNDLE, else AZUREML_MODEL_DIR",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="MLOPS_HOST")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            parser=_port,
            metavar="INTEGER",
            help="Port; 0 takes a free one.",
            envvar="MLOPS_PORT",
            show_default="serving.port of the workload, which is 8000",
        ),
    ] = None,
    auth: Annotated[
        str,
        typer.Option(help="key, or none if something in front authenticates.", envvar="MLOPS_AUTH"),
    ] = "key",
    workers: WorkersOption = None,
    precision: PrecisionOption = "auto",
    name: Annotated[str, typer.Option(help="Model name in responses.", envvar="MLOPS_MODEL_NAME")] = "",
    version: Annotated[str, typer.Option(help="Model version in responses.", envvar="MLOPS_MODEL_VERSION")] = "",
    workload: Annotated[
        str,
        typer.Option(help="Workload whose section `serving` sets port and limits.", show_default="none"),
    ] = "",
    port_file: Annotated[Path | None, typer.Option(hidden=True)] = None,
    parent_socket: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Serve a bundle over HTTP until Ctrl-C.

    Each request must have the key of MLOPS_SCORING_KEY, or one from a line of the file MLOPS_SCORING_KEY_FILE.
    MLOPS_ADMIN_KEY enables POST /admin/reload, which swaps the model without downtime. SIGHUP reloads the folder of the
    bundle; for a server that a terminal started, it means that the terminal was closed, and stops it. A reference such as
    `textile@champion` is looked up once, at the start.

    Example: `mlops serve textile@champion --port 8000`, or `mlops serve outputs/bundles/textile`
    """
    if os.getpid() == 1:  # the system ignores what the first process of a container has no handler for
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    # One core a worker: the thread pools of the numeric libraries would only take memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from vision_mlops.config.workload_files import load_serving
    from vision_mlops.model.bundle import read_bundle
    from vision_mlops.model.bundle_lookup import bundle_root, find_bundle, registered_as
    from vision_mlops.registry.version_index import warning_about_folder
    from vision_mlops.serving.foreground import ForegroundServer
    from vision_mlops.serving.workers.ipc import IpcConnection

    keys = _keys(auth, host)
    parent = None if parent_socket is None else IpcConnection.inherited(parent_socket)
    text = bundle or str(bundle_root())
    chosen = choose_bundle(text)
    folder = find_bundle(chosen.folder)
    # A parent has chosen the version itself, and its log is for what goes wrong.
    if parent is None and (warning := chosen.warning if chosen.name else warning_about_folder(folder)):
        warn(warning)
    known = (chosen.name, chosen.version) if chosen.name else registered_as(Path(text))
    name, described = name or known[0], read_bundle(folder)
    ForegroundServer(
        folder=folder,
        model=(name, version or known[1]),
        title=name or described.name,
        limits=load_serving(workload),
        host=host,
        port=port,
        size=workers,
        precision=precision,
        keys=keys,
        admin_key=os.environ.get("MLOPS_ADMIN_KEY") or None,
        parent=parent,
    ).run(say, port_file)


def _keys(auth: str, host: str) -> AccessKeys | None:
    """Return the keys of the environment; None if none is needed."""
    from vision_mlops.serving.access_keys import keys_of_environment

    if auth not in ("key", "none"):
        raise ServingError(f"unknown --auth {auth!r}", "give key or none")
    keys = keys_of_environment()
    if auth == "none":
        if keys:
            raise ServingError(
                "--auth none is given, but a key is set", "remove --auth none or the key of the environment"
            )
        return None
    if not keys and host not in LOOPBACK:
        raise ServingError(
            f"without a key the server listens on this machine only, not on {host}",
            "set MLOPS_SCORING_KEY or MLOPS_SCORING_KEY_FILE, or --auth none if something in front authenticates",
        )
    return keys
