"""``mlops app deploy``: the web frontend to Azure App Service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from vision_mlops.cli.app.package import Brand, Samples, brand_folder
from vision_mlops.cli.azure.checks_first import SkipChecks, check_first
from vision_mlops.cli.endpoint import On
from vision_mlops.cli.options import AzureDevOps, GitHub, filled
from vision_mlops.cli.output import emit_json, say, warn
from vision_mlops.core.errors import ConfigError, DeploymentError
from vision_mlops.core.listening import LOOPBACK

if TYPE_CHECKING:
    from vision_mlops.config.azure_settings import AzureSettings


def deploy(
    name: Annotated[
        str,
        typer.Argument(callback=filled, help="Name of the web app: it becomes NAME.azurewebsites.net.", metavar="NAME"),
    ],
    endpoint: Annotated[
        str,
        typer.Option(
            "--endpoint",
            metavar="URL|NAME",
            help="Scoring endpoint: its address, or with --on its name.",
            show_default="MLOPS_APP_ENDPOINT",
        ),
    ] = "",
    on: On = None,
    resource_group: Annotated[
        str,
        typer.Option("--resource-group", "-g", help="Resource group.", show_default="AZURE_RESOURCE_GROUP"),
    ] = "",
    plan: Annotated[str, typer.Option("--plan", help="App Service plan.", show_default="asp-NAME")] = "",
    sku: Annotated[
        str, typer.Option("--sku", help="Size of a new plan; B1 is cheaper and has no slots.", show_default="P0v3")
    ] = "",
    slot: Annotated[str, typer.Option("--slot", help="Slot in which the release is tried first.")] = "staging",
    package: Annotated[
        Path | None,
        typer.Option(
            "--package", metavar="FILE", help="Zip of `mlops app package`.", show_default="made now", dir_okay=False
        ),
    ] = None,
    image: Annotated[
        str, typer.Option("--image", help="Run this image, REGISTRY/NAME@sha256:DIGEST, instead of a zip.")
    ] = "",
    samples: Samples = None,
    brand: Brand = None,
    no_swap: Annotated[
        bool, typer.Option("--no-swap", help="Stop once it is healthy in the slot; the same without it swaps it in.")
    ] = False,
    azure_devops: AzureDevOps = False,
    github: GitHub = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to build the zip in, and to become healthy in.")
    ] = 900,
    workload: Annotated[
        str, typer.Option("--workload", "-w", help="Workload that it belongs to, for `mlops down`.")
    ] = "",
    skip_checks: SkipChecks = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Bring the web frontend to Azure App Service: tried in a slot, swapped in once it is healthy, swapped back when not.

    Its settings are the variables MLOPS_APP_... of this environment; a value such as
    @Microsoft.KeyVault(SecretUri=...) is read by App Service. What is not given stays as it is there. Of an endpoint that is
    given by its name, a key goes to the vault of MLOPS_AZURE_KEY_VAULT, and the app refers to it.

    A pipeline gets the outputs `url`, where the release answers now, and `release`.

    Example: `mlops app deploy vision-textile --endpoint https://HOST/score --dry-run`
    """
    from vision_mlops.config.azure_settings import load_azure_settings
    from vision_mlops.devops.build_results import open_build
    from vision_mlops.endpoints.appservice.app_deployment import AppDeployment
    from vision_mlops.endpoints.appservice.app_package import build_package, read_package
    from vision_mlops.endpoints.appservice.deployment_steps import steps
    from vision_mlops.endpoints.appservice.site_definition import SLOT, WantedApp

    made_before = [option for option, value in (("--package", package), ("--image", image)) if value]
    given = [*made_before, *(option for option, value in (("--samples", samples), ("--brand", brand)) if value)]
    if len(given) > 1 and made_before:
        raise DeploymentError(f"{given[0]} and {given[1]} do not go together", f"leave {given[1]} out")
    settings = load_azure_settings(resource_group=resource_group or None)
    build = open_build(typer.echo, azure_devops=azure_devops, github=github)
    named = _endpoint_settings(endpoint, on, settings, keep=not dry_run) if on else {}
    variables = _variables("" if on else endpoint, named)
    zip_ = None if image else read_package(package) if package else build_package(samples, brand_folder(brand))
    wanted = WantedApp(
        name, plan or f"asp-{name}", sku, slot or SLOT, settings.location, zip_, image, variables, workload
    )
    if dry_run:
        lines = steps(wanted, settings)
        if json_:
            emit_json({"name": name, "steps": [line.strip() for line in lines]})
        else:
            typer.echo("\n".join(lines))
        return
    deployment = AppDeployment(wanted, settings, say, timeout, swap=not no_swap)
    check_first("app", skip=skip_checks, settings=settings)
    made = deployment.run()
    if build is not None:
        build.output("url", made.url)
        build.output("release", made.release)
    if json_:
        emit_json(
            {
                "name": made.name,
                "url": made.url,
                "release": made.release,
                "changed": made.changed,
                "slot": made.slot,
                "role_commands": list(made.roles),
            }
        )
        return
    typer.echo(f"{made.name} runs release {made.release} at {made.url}")
    if made.roles:
        say("its identities need these roles, once:")
        for command in made.roles:
            say(f"  {command}")


def _endpoint_settings(name: str, on: str, settings: AzureSettings, *, keep: bool) -> dict[str, str]:
    """How the app reaches an endpoint that was deployed to a target, and signs in there.

    Args:
        name: Of the endpoint.
        on: Its target.
        settings: Name the key vault.
        keep: Whether to keep the key there; else the vault is left alone.

    Raises:
        DeploymentError: no name is given, the endpoint does not exist, or the app cannot sign in to it.
        MlopsError: the target does not give access to it, or the vault refuses.
    """
    from vision_mlops.cli.app.endpoint_choice import choose_endpoint
    from vision_mlops.endpoints.appservice.endpoint_key import key_reference
    from vision_mlops.flask_app.app_settings import PREFIX, VAULT_REFERENCE

    if not name or "://" in name:
        raise DeploymentError("--on needs the name of an endpoint", f"give --endpoint NAME --on {on}")
    chosen = choose_endpoint(name, on)
    found = {f"{PREFIX}ENDPOINT": chosen.url, f"{PREFIX}ENDPOINT_AUTH": chosen.auth}
    if chosen.key and f"{PREFIX}ENDPOINT_KEY" not in os.environ:
        reference = key_reference(settings, name, chosen.key) if keep else f"{VAULT_REFERENCE}...)"
        found[f"{PREFIX}ENDPOINT_KEY"] = reference
    return found


def _variables(endpoint: str, named: Mapping[str, str]) -> dict[str, str]:
    """The settings of the app that are given here, checked as the app does. Raises ConfigError."""
    from vision_mlops.flask_app.app_settings import PREFIX, VAULT_REFERENCE, load_app_settings

    here = {name: value.strip() for name, value in os.environ.items() if name.startswith(PREFIX) and value.strip()}
    for name in ("SAMPLES", "BRAND"):
        if PREFIX + name in here:
            raise ConfigError(
                f"{PREFIX}{name} names a folder of this machine", f"unset it, and give --{name.lower()} FOLDER"
            )
    if endpoint:
        here[f"{PREFIX}ENDPOINT"] = endpoint
    here |= named
    # What a reference stands for is known on App Service only: here it is a text that is long enough.
    load_app_settings({name: "x" * 64 if value.startswith(VAULT_REFERENCE) else value for name, value in here.items()})
    address = here.get(f"{PREFIX}ENDPOINT", "")
    if not address:
        raise ConfigError("no scoring endpoint is given", "give its address with --endpoint, or in MLOPS_APP_ENDPOINT")
    if urlsplit(address).hostname in LOOPBACK:
        warn(f"{address} is an address of this machine, which App Service on Azure does not reach")
    return here
