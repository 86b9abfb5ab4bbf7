"""``mlops app``: run the web frontend in the foreground; and the group of commands that deploy it to App Service."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.app import deploy, package
from vision_mlops.cli.app.package import brand_folder
from vision_mlops.cli.output import fail, say, warn
from vision_mlops.core.errors import ConfigError, MlopsError
from vision_mlops.core.listening import LOOPBACK, listen, url_of

if TYPE_CHECKING:
    import socket

    from vision_mlops.flask_app.app_settings import AppSettings

app = typer.Typer()
_BOOT_ERROR = 4
"""Exit code of a worker after which gunicorn starts no other."""


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    endpoint: Annotated[
        str,
        typer.Option(
            metavar="URL|NAME",
            help="Address of the scoring endpoint, or its name in `mlops endpoint list`.",
            show_default="MLOPS_APP_ENDPOINT, else the endpoint that runs on this machine",
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    port_file: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the web frontend until Ctrl-C: pages on which people classify images, and see what is deployed.

    It works with any scoring endpoint over HTTP. The key of the endpoint is read from MLOPS_APP_ENDPOINT_KEY, or looked up
    for an endpoint that is given by name. docs/how_to/web_app.md lists all settings (MLOPS_APP_...).

    Example: `mlops app`, or `mlops app --endpoint http://127.0.0.1:8000 --port 8090`
    """
    if context.invoked_subcommand is not None:
        given = [name for name in ("endpoint", "host", "port", "port_file") if _is_given(context, name)]
        if given:
            raise typer.BadParameter(
                f"--{given[0].replace('_', '-')} must come after {context.invoked_subcommand}, or be removed"
            )
        return
    from vision_mlops.cli.app.endpoint_choice import choose_endpoint
    from vision_mlops.flask_app.app import open_corrections
    from vision_mlops.flask_app.app_settings import load_app_settings

    settings = load_app_settings(endpoint=endpoint if "://" in endpoint else None)
    brand = settings.brand or brand_folder(None)
    if "://" not in endpoint and (endpoint or not settings.endpoint):
        chosen = choose_endpoint(endpoint)
        settings = load_app_settings(
            endpoint=chosen.url, endpoint_key=chosen.key or None, endpoint_auth=chosen.auth,
            samples=settings.samples or chosen.samples,
        )  # fmt: skip
    settings = settings.model_copy(update={"brand": brand})
    if host in LOOPBACK and not settings.hosts:  # a page of another site must not reach it by a name of its own
        settings = settings.model_copy(update={"hosts": LOOPBACK})
    elif host not in LOOPBACK and not settings.trust_sign_in:
        warn(f"everybody who can reach {host} can use the web frontend, and through it the scoring endpoint")
    open_corrections(settings)  # here, so that a wrong location is reported in one line
    listener = listen(host, port)
    bound = listener.getsockname()[1]
    if port_file is not None:
        port_file.write_text(f"{bound}\n", encoding="utf-8")
    _serve(settings, listener, f"the web frontend of {settings.endpoint} is at {url_of(host, bound)}  (Ctrl-C stops)")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _serve(settings: AppSettings, listener: socket.socket, ready: str) -> None:
    """Run gunicorn in this process until a signal ends it."""
    from gunicorn.app.base import BaseApplication
    from pydantic import SecretStr

    from vision_mlops.flask_app import gunicorn_settings
    from vision_mlops.flask_app.app import create_app

    if not settings.secret_key.get_secret_value():  # generated here, so that sessions outlive a worker
        settings = settings.model_copy(update={"secret_key": SecretStr(secrets.token_hex(32))})
        say("MLOPS_APP_SECRET_KEY is not set: sessions end when the web frontend stops")

    class Application(BaseApplication):
        def load_config(self) -> None:
            for name, value in vars(gunicorn_settings).items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)
            self.cfg.set("bind", f"fd://{listener.fileno()}")
            self.cfg.set("loglevel", "warning")
            self.cfg.set("graceful_timeout", 5)  # somebody is waiting at the terminal
            self.cfg.set("post_worker_init", lambda worker: say(ready) if worker.age == 1 else None)

        def load(self) -> object:
            try:
                return create_app(settings)
            except MlopsError as error:
                fail(str(error))
                raise SystemExit(_BOOT_ERROR) from error

    process = os.getpid()
    try:
        Application().run()
    except SystemExit as end:
        if os.getpid() != process:  # this is a worker process
            raise
        if end.code:
            raise ConfigError("the web frontend cannot start", "see the reason above") from end
    say("stopped")


app.command("package")(package.package)
app.command("deploy")(deploy.deploy)
