"""Describes what a deployment of the web frontend would do, for ``--dry-run``."""

from __future__ import annotations

import re

from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.endpoints.appservice.site_definition import (
    HEALTH,
    SECRETS,
    SKU,
    WantedApp,
    check,
    fixed_settings,
    has_slots,
    runtime,
)

_SIGNATURE = re.compile(r"\bsig=[^&\s]+")


def steps(wanted: WantedApp, settings: AzureSettings) -> list[str]:
    """Describe what a deployment would do, one line per step, without values of secrets. Nothing is sent.

    Raises:
        DeploymentError: a name, size or setting is not valid.
    """
    check(wanted)
    sku = wanted.sku or SKU
    slot = wanted.slot if has_slots(sku) else ""
    place = f"slot {slot}" if slot else f"web app {wanted.name} itself: {sku} has no slots, so it cannot be rolled back"
    given = {**fixed_settings(wanted), **wanted.settings}
    shown = [
        f"    {name}={'***' if name in SECRETS else _SIGNATURE.sub('sig=***', value)}"
        for name, value in sorted(given.items())
    ]
    what = (
        f"image {wanted.image}, pulled with the managed identity"
        if wanted.image
        else "the zip, through the publishing site"
    )
    found = [
        f"in resource group {settings.resource_group}, unless they exist:",
        f"  plan {wanted.plan}: Linux, {sku}, {wanted.location}",
        f"  web app {wanted.name}: {runtime(wanted)}, HTTPS only, TLS 1.2, no FTP, no publishing password,",
        f"    health check {HEALTH}, a managed identity",
        *([f"  slot {slot}: the same, with a managed identity of its own"] if slot else []),
        f"release {wanted.release}, into {place}:",
        f"  settings, in addition to the existing ones:\n{chr(10).join(shown)}",
        f"  {what}",
        f"wait until {HEALTH} and the first page respond",
    ]
    if slot:
        found.append(f"swap slot {slot} with production, check it again, and swap back if it does not respond")
    return found
