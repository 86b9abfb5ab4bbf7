"""``mlops app deploy``: deploy the web frontend to Azure App Service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.app.package import Brand, Samples, brand_folder
from vision_mlops.cli.azure.checks_first import SkipChecks, check_first
from vision_mlops.cli.endpoint import On
from vision_mlops.cli.options import AzureDevOps, DryRunOption, GitHub, JsonOption, filled
from vision_mlops.cli.output import emit, say, warn
from vision_mlops.core.errors import ConfigError, DeploymentError
from vision_mlops.core.listening import is_on_this_machine

if TYPE_CHECKING:
    from vision_mlops.config.azure_settings import AzureSettings


def deploy(
    name: Annotated[
        str,
        typer.Argument(
            callback=filled, help="Name of the web app, which becomes NAME.azurewebsites.net.", metavar="NAME"
        ),
    ],
    endpoint: Annotated[
        str,
        typer.Option(
            metavar="URL|NAME",
            help="Address of the scoring endpoint, or with --on its name.",
            show_default="MLOPS_APP_ENDPOINT",
        ),
    ] = "",
    on: On = None,
    resource_group: Annotated[
        str,
        typer.Option("--resource-group", "-g", help="Resource group.", show_default="AZURE_RESOURCE_GROUP"),
    ] = "",
    plan: Annotated[str, typer.Option(help="Name of the App Service plan.", show_default="asp-NAME")] = "",
    sku: Annotated[
        str, typer.Option(help="SKU of a new plan; B1 is cheaper and has no slots.", show_default="P0v3")
    ] = "",
    slot: Annotated[str, typer.Option(help="Slot that the release is deployed to first.")] = "staging",
    package: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Zip from `mlops app package`.", show_default="built now", dir_okay=False),
    ] = None,
    image: Annotated[str, typer.Option(help="Deploy this image, REGISTRY/NAME@sha256:DIGEST, instead of a zip.")] = "",
    samples: Samples = None,
    brand: Brand = None,
    no_swap: Annotated[
        bool, typer.Option("--no-swap", help="Stop once it is healthy in the slot; run again without it to swap.")
    ] = False,
    azure_devops: AzureDevOps = False,
    github: GitHub = False,
    timeout: Annotated[
        float,
        typer.Option(min=1, help="Seconds to wait for the build of the zip, and for the app to become healthy."),
    ] = 900,
    workload: Annotated[
        str, typer.Option("--workload", "-w", help="Workload that the app belongs to, for `mlops down`.")
    ] = "",
    skip_checks: SkipChecks = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Deploy the web frontend to Azure App Service: to a slot first, swapped in once healthy, swapped back if it is not.

    Its settings are the variables MLOPS_APP_... of this environment; App Service itself resolves values such as
    @Microsoft.KeyVault(SecretUri=...). Settings that are not given stay as they are there. The key of an endpoint that is
    given by name is stored in the vault MLOPS_AZURE_KEY_VAULT, and the app refers to it.

    A pipeline gets the outputs `url`, the address of the release, and `release`.

    Example: `mlops app deploy vision-textile --endpoint https://HOST/score --dry-run`
    """
    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.devops.build_results import open_build
    from vision_mlops.endpoints.appservice.app_deployment import AppDeployment
    from vision_mlops.endpoints.appservice.app_package import build_package, read_package
    from vision_mlops.endpoints.appservice.deployment_steps import steps
    from vision_mlops.endpoints.appservice.site_definition import SLOT, WantedApp

    made_before = [option for option, value in (("--package", package), ("--image", image)) if value]
    given = [*made_before, *(option for option, value in (("--samples", samples), ("--brand", brand)) if value)]
    if len(given) > 1 and made_before:
        raise DeploymentError(f"{given[0]} and {given[1]} cannot be used together", f"remove {given[1]}")
    settings = AzureSettings.load(resource_group=resource_group or None)
    build = open_build(typer.echo, azure_devops=azure_devops, github=github)
    named = _endpoint_settings(endpoint, on, settings, keep=not dry_run) if on else {}
    variables = _variables("" if on else endpoint, named)
    zip_ = None if image else read_package(package) if package else build_package(samples, brand_folder(brand))
    wanted = WantedApp(
        name, plan or f"asp-{name}", sku, slot or SLOT, settings.location, zip_, image, variables, workload
    )
    if dry_run:
        lines = steps(wanted, settings)
        emit({"name": name, "steps": [line.strip() for line in lines]}, "\n".join(lines), as_json=json_)
        return
    deployment = AppDeployment(wanted, settings, say, timeout, swap=not no_swap)
    check_first("app", skip=skip_checks, settings=settings)
    made = deployment.run()
    if build is not None:
        build.output("url", made.url)
        build.output("release", made.release)
    facts = {
        "name": made.name, "url": made.url, "release": made.release, "changed": made.changed, "slot": made.slot,
        "role_commands": list(made.roles),
    }  # fmt: skip
    emit(facts, f"{made.name} runs release {made.release} at {made.url}", as_json=json_)
    if made.roles and not json_:
        say("its identities need these roles, which are assigned once:")
        for command in made.roles:
            say(f"  {command}")


def _endpoint_settings(name: str, on: str, settings: AzureSettings, *, keep: bool) -> dict[str, str]:
    """Return the settings with which the app reaches an endpoint that was deployed to a target, and signs in to it.

    Args:
        name: Name of the endpoint.
        on: Its target.
        settings: They name the key vault.
        keep: Whether to store the key in the vault; otherwise the vault is not touched.

    Raises:
        DeploymentError: no name is given, the endpoint does not exist, or the app cannot sign in to it.
        MlopsError: the target denies access to it, or the vault refuses.
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
    """Return the settings of the app that are given here, checked as the app checks them. Raises ConfigError."""
    from vision_mlops.flask_app.app_settings import PREFIX, VAULT_REFERENCE, load_app_settings

    here = {name: value.strip() for name, value in os.environ.items() if name.startswith(PREFIX) and value.strip()}
    for name in ("SAMPLES", "BRAND"):
        if PREFIX + name in here:
            raise ConfigError(
                f"{PREFIX}{name} names a folder on this machine", f"unset it, and give --{name.lower()} FOLDER"
            )
    if endpoint:
        here[f"{PREFIX}ENDPOINT"] = endpoint
    here |= named
    # Only App Service can resolve a reference: a text that is long enough stands in for it.
    load_app_settings({name: "x" * 64 if value.startswith(VAULT_REFERENCE) else value for name, value in here.items()})
    address = here.get(f"{PREFIX}ENDPOINT", "")
    if not address:
        raise ConfigError("no scoring endpoint is given", "give its address with --endpoint, or in MLOPS_APP_ENDPOINT")
    if is_on_this_machine(address):
        warn(f"{address} is an address of this machine, which App Service cannot reach")
    return here
