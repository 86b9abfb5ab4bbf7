"""Check that a region has the sizes of machines, that they are not being retired, and that the quota suffices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.preflight.caller import UNSEEN
from vision_mlops.azure.preflight.purposes import Demand
from vision_mlops.config.retirements import Use, retired_uses
from vision_mlops.core.errors import AzureError
from vision_mlops.core.text import closest, counted
from vision_mlops.doctor.check_results import Diagnosis, Outcome, failure, ok, warning

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def check_capacity(client: MLClient, location: str, demands: Sequence[Demand], today: date) -> list[Diagnosis]:
    """Return a result for each size, and one for the quota of each. Raises AzureError."""
    results = [_retirement(demand, today) for demand in demands]
    try:
        with azure_errors(f"sizes of machines in {location}"), quiet():
            sizes = {str(item.name).lower(): item for item in client.compute.list_sizes(location=location)}
        with azure_errors(f"quota in {location}"), quiet():
            usages = list(client.compute.list_usage(location=location))
    except AzureError as error:
        if error.status != 403:
            raise
        fix = "ask for the role Reader on the subscription; the portal shows the quota under Quotas, Machine Learning"
        return [item for item in results if item] + [
            warning("quota", f"your roles do not let you see sizes and quota, {UNSEEN}", fix)
        ]
    for demand in demands:
        size = sizes.get(demand.size.lower())
        if size is None:
            near = closest(demand.size, [str(item.name) for item in sizes.values()]) or ["Standard_D4s_v5"]
            results.append(
                failure(
                    "size",
                    f"{demand.size} ({demand.setting}) is not offered in {location} to this subscription",
                    f"{_setting(demand, near[0])}, or another region",
                )
            )
            continue
        found = _quota(demand, size, usages, location)
        if found.outcome is Outcome.FAIL and _is_there(client, demand):
            found = warning(found.name, f"{found.detail}; what exists already keeps running", found.fix)
        results.append(found)
    return [item for item in results if item is not None]


def _retirement(demand: Demand, today: date) -> Diagnosis | None:
    for found in retired_uses([Use("sku", demand.size, demand.setting)]):
        fix = f"use {found.retirement.replacement}"
        if found.is_over(today):
            return failure("size", found.describe(today), fix)
        if found.is_near(today):
            return warning("size", found.describe(today), fix)
    return None


def _quota(demand: Demand, size: Any, usages: Sequence[Any], location: str) -> Diagnosis:
    if demand.low_priority:
        return ok("quota", f"{demand.size}: Spot machines have their own quota, which is not checked")
    cores = _number(size, "vCPUs", "v_cp_us")
    family = _plain(str(size.family))
    usage = next((item for item in usages if _plain(_family_of(item)) == family != ""), None)
    if usage is None or not cores:
        fix = f"see Quotas in the portal (Machine Learning, {location})"
        return warning("quota", f"Azure does not report the quota of {demand.size} in {location}", fix)
    used, limit = _number(usage, "currentValue", "current_value"), _number(usage, "limit")
    free = limit - used
    wanted, least = (cores * demand.machines_with_reserve(few) for few in (False, True))
    spare = wanted - cores * demand.machines
    reserve = f", {spare} of them for upgrades" if spare else ""
    need = "needs" if demand.machines == 1 else "need"
    told = (
        f"{counted(demand.machines, 'machine')} {demand.size} ({demand.setting}) {need} {wanted} vCPUs{reserve};"
        f" {max(free, 0)} of {limit} are free in {location}"
    )
    ask = (
        f"ask for quota: portal, Quotas, Machine Learning, {location}, {_family_of(usage)}, new limit"
        f" {used + wanted}; or choose another size: {_setting(demand, 'SIZE')}"
    )
    if free < least:
        return failure("quota", told, ask)
    if free < wanted:
        return warning("quota", f"{told}: fewer machines will do", ask)
    return ok("quota", told)


def _number(entity: Any, *names: str) -> int:
    """Return a number of the SDK's entity, which has it under the name of the service or under its own."""
    return next((int(value) for name in names if (value := getattr(entity, name, None)) is not None), 0)


def _is_there(client: MLClient, demand: Demand) -> bool:
    """Return whether some of the machines are in use for this already, so that quota is only needed to grow."""
    try:
        with azure_errors("existing machines"), quiet():
            if demand.cluster:
                client.compute.get(demand.cluster)
            elif demand.deployment:
                endpoint, name = demand.deployment
                client.online_deployments.get(name, endpoint)
            else:
                return False
    except AzureError as error:
        if error.status == 404:
            return False
        raise
    return True


def _setting(demand: Demand, value: str) -> str:
    return f"{demand.setting} {value}" if demand.setting.startswith("--") else f"export {demand.setting}={value}"


def _family_of(usage: Any) -> str:
    name = usage.name
    return str(name.get("value") if isinstance(name, dict) else getattr(name, "value", None) or name)


def _plain(text: str) -> str:
    """Return the family of a size in a form that can be compared: a row of the quota spells it differently from the size."""
    text = re.sub(r"(cluster )?dedicated vcpus$", "", text.lower().strip())
    return re.sub(r"[^a-z0-9]|^standard|family\s*$", "", text.strip()).removeprefix("standard").removesuffix("family")
