"""Check names that are unique in Azure: whether they are valid, and available or ours already."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import AzureError
from vision_mlops.core.text import nearest
from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning


@dataclass(frozen=True)
class _NameRule:
    """How a kind of name is written, and which service knows whether it is available."""

    what: str
    pattern: str
    words: str
    resource: str
    path: str
    version: str


RULES = {
    "storage": _NameRule(
        "storage account", r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits",
        "Microsoft.Storage/storageAccounts", "Microsoft.Storage/checkNameAvailability", "2023-05-01",
    ),
    "vault": _NameRule(
        "key vault", r"(?!.*--)[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]",
        "3 to 24 letters, digits and single '-', starting with a letter and not ending with '-'",
        "Microsoft.KeyVault/vaults", "Microsoft.KeyVault/checkNameAvailability", "2023-07-01",
    ),
    "registry": _NameRule(
        "container registry", r"[A-Za-z0-9]{5,50}", "5 to 50 letters and digits",
        "Microsoft.ContainerRegistry/registries", "Microsoft.ContainerRegistry/checkNameAvailability", "2023-07-01",
    ),
    "webapp": _NameRule(
        "web app", r"[A-Za-z0-9][A-Za-z0-9-]{0,58}[A-Za-z0-9]", "2 to 60 letters, digits and '-', not at either end",
        "Microsoft.Web/sites", "Microsoft.Web/checknameavailability", "2023-12-01",
    ),
}  # fmt: skip
"""Rules by the word before the = of ``--name KIND=NAME``."""


@dataclass(frozen=True)
class WantedName:
    """A name of a kind. ``setting`` says where it comes from, and ``exists`` whether it should exist already."""

    kind: str
    name: str
    setting: str
    exists: bool = False


def parse_name(text: str) -> WantedName:
    """Parse ``KIND=NAME``. Raises AzureError."""
    kind, mark, name = text.partition("=")
    if not mark or not name:
        raise AzureError(f"--name {text}: not of the form KIND=NAME", "write it like --name storage=stvisiondev")
    if kind not in RULES:
        raise AzureError(f"--name {text}: unknown kind {kind!r}", nearest(kind, RULES))
    return WantedName(kind, name, f"--name {kind}=")


def names_of_settings(settings: AzureSettings) -> list[WantedName]:
    """Names in the settings that must exist already."""
    found = []
    if settings.key_vault and not settings.key_vault.startswith("https://"):
        found.append(WantedName("vault", settings.key_vault, "MLOPS_AZURE_KEY_VAULT", exists=True))
    if settings.container_registry and settings.container_registry.split("/")[0].endswith(".azurecr.io"):
        name = settings.container_registry.partition(".")[0]
        found.append(WantedName("registry", name, "MLOPS_AZURE_CONTAINER_REGISTRY", exists=True))
    return found


def check_names(reads: ResourceManager, settings: AzureSettings, names: Iterable[WantedName]) -> list[Diagnosis]:
    """Return a result for each name. Raises AzureError."""
    wanted = list(names)
    well_formed = [name for name in wanted if re.fullmatch(RULES[name.kind].pattern, name.name)]
    results = [_malformed(name) for name in wanted if name not in well_formed]
    if not well_formed:
        return results
    try:
        listed = reads.list("resources of the group", f"{reads.group}/resources", "2021-04-01")
    except AzureError as error:
        if error.status not in (403, 404):  # the group has its own check
            raise
        listed = []
    ours = {(str(item.get("type")).lower(), str(item.get("name")).lower()) for item in listed}
    for name in well_formed:
        rule = RULES[name.kind]
        if (rule.resource.lower(), name.name.lower()) in ours:
            results.append(ok("names", f"{rule.what} {name.name} is in resource group {settings.resource_group}"))
            continue
        results.append(_free(reads, name, rule))
    return results


def _free(reads: ResourceManager, name: WantedName, rule: _NameRule) -> Diagnosis:
    path = f"{reads.subscription}/providers/{rule.path}"
    body = {"name": name.name, "type": rule.resource}
    try:
        found = reads.call("POST", f"name of the {rule.what} {name.name!r}", path, rule.version, body)
    except AzureError as error:
        if error.status not in (400, 403):
            raise
        return warning("names", error.message, f"az resource list --name {name.name} --output table")
    free = bool(found.get("nameAvailable"))
    if name.exists and free:
        fix = f"create it with `make infra-up`, or: export {name.setting}=ANOTHER_NAME"
        return failure("names", f"{rule.what} {name.name} ({name.setting}) does not exist", fix)
    if name.exists:
        return ok("names", f"{rule.what} {name.name} exists, outside this resource group")
    if not free:
        reason = found.get("message") or found.get("reason") or "it is taken"
        fix = f"choose another name, such as {name.setting}{_other(name.name, rule)}"
        return failure("names", f"{rule.what} {name.name} is not available: {reason}", fix)
    return ok("names", f"{rule.what} {name.name} is available")


def _malformed(name: WantedName) -> Diagnosis:
    rule = RULES[name.kind]
    start = "choose" if name.setting.startswith("--") else f"export {name.setting}=NAME:"
    return failure("names", f"{name.name!r} cannot be the name of a {rule.what}", f"{start} {rule.words}")


def _other(name: str, rule: _NameRule) -> str:
    other = f"{name[:20]}01"
    return other if re.fullmatch(rule.pattern, other) else "ANOTHERNAME"
