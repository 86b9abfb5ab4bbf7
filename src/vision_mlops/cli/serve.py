"""``mlops serve``: the scoring server in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.output import say
from vision_mlops.exceptions import MissingExtraError, ServingError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    bundle: Annotated[Path, typer.Argument(help="Model bundle.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    name: Annotated[str, typer.Option("--name", help="Name of the model in answers.")] = "",
    version: Annotated[str, typer.Option("--version", help="Version of the model in answers.")] = "",
    port_file: Annotated[Path | None, typer.Option("--port-file", hidden=True)] = None,
) -> None:
    """Serve a bundle over HTTP until Ctrl-C. The environment's MLOPS_SCORING_KEY, if set, must come with each request.

    Example: `mlops serve outputs/bundles/textile --port 8000`
    """
    import socket

    from vision_mlops.model.bundle import read_bundle

    key = os.environ.get("MLOPS_SCORING_KEY") or None
    if key is None and host not in _LOOPBACK:
        raise ServingError(
            f"without a key the server listens on this machine only, not on {host}", "set MLOPS_SCORING_KEY"
        )
    described = read_bundle(bundle)
    try:
        import uvicorn

        from vision_mlops.deployment.server import create_app
        from vision_mlops.deployment.telemetry import log_to_stderr
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "uvicorn", "serve") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise ServingError(
            f"cannot listen on {host}:{port}: {error.strerror}", "stop what uses it, or give --port 0 for a free one"
        ) from error
    bound = listener.getsockname()[1]
    if port_file is not None:
        port_file.write_text(f"{bound}\n", encoding="utf-8")
    log_to_stderr()

    def announce(problem: str) -> None:
        text = f"not ready: {problem}" if problem else f"serving {name or described.name} at http://{host}:{bound}"
        say(f"{text}  (Ctrl-C stops)")

    app = create_app(bundle, model_name=name, model_version=version, key=key, on_loaded=announce)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn has drained by now and raises the signal again
    say("stopped")
