"""Requirements for a compute: its name, its size, its numbers of nodes, its times, and the quota for it.

The messages of the refusals are those that users of the service report, as far as they are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from azureml_emulator.resources.region_limits import RegionLimits
from azureml_emulator.resources.rest_resources import RestResource
from azureml_emulator.resources.vm_sizes import VM_SIZES, VmSize
from azureml_emulator.rest.rest_calls import Json, ServiceRefusalError, malformed

CLUSTER, INSTANCE = "AmlCompute", "ComputeInstance"
KINDS = (CLUSTER, INSTANCE, "Kubernetes", "AKS", "VirtualMachine")
_LONGEST = {CLUSTER: (2, 32), INSTANCE: (3, 24)}
_LONGEST_OTHER = (2, 16)
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII)
_NUMBER_AT_END = re.compile(r".*-\d+")
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
_SHORTEST_IDLE, _LONGEST_IDLE = timedelta(minutes=15), timedelta(days=3)


def check_name(kind: str, name: str) -> None:
    """Refuse a name that is invalid for computes of a kind.

    Raises:
        ServiceRefusalError: 400.
    """
    shortest, longest = _LONGEST.get(kind, _LONGEST_OTHER)
    fits = shortest <= len(name) <= longest and _NAME.fullmatch(name) is not None
    if fits and not (kind == INSTANCE and _NUMBER_AT_END.fullmatch(name)):
        return
    what = {CLUSTER: "Azure ML compute cluster", INSTANCE: "Azure ML Compute Instance"}.get(kind, "compute")
    rule = (
        f"A name for an {what} must be between {shortest} and {longest} characters in length and must use only numbers, "
        "letters and minus symbol (-), must start with a letter, and end with a letter or number."
    )
    if kind == INSTANCE:
        rule += " Numbers cannot be the ending of the name if the previous character is a minus symbol (-)."
    raise malformed(f"Compute name '{name}' is not available. Reason: Invalid. Message: {rule}")


def check_free(name: str, others: Iterable[RestResource], limits: RegionLimits) -> None:
    """Refuse the name of a compute instance if another one in the region has it.

    Raises:
        ServiceRefusalError: 409.
    """
    taken = {item.name.lower() for item in others if item.properties.get("computeType") == INSTANCE}
    if name.lower() in taken | {item.lower() for item in limits.taken}:
        message = f"The specified name {name} is already in use and is therefore unavailable"
        raise ServiceRefusalError(
            409, "Conflict", f"Compute name '{name}' is not available. Reason: AlreadyExists. Message: {message}"
        )


def size_of(settings: Json) -> VmSize:
    """Return the size that a cluster or instance names.

    Raises:
        ServiceRefusalError: 400, the region has no such size.
    """
    name = str(settings.get("vmSize") or "Standard_DS3_v2")
    found = VM_SIZES.get(name.lower())
    if found is None:
        known = ", ".join(size.name.upper() for size in VM_SIZES.values())
        raise ServiceRefusalError(
            400,
            "BadRequest",
            f"The specified value {name} for property Cluster.Properties.VMSize is not a supported VM size: {known}",
        )
    return found


def check_scale(settings: Json) -> None:
    """Refuse invalid numbers of nodes.

    Raises:
        ServiceRefusalError: 400.
    """
    scale = settings.get("scaleSettings") or {}
    lowest, highest = scale.get("minNodeCount") or 0, scale.get("maxNodeCount")
    if not isinstance(highest, int) or not isinstance(lowest, int):
        raise malformed("scaleSettings need a maxNodeCount, and numbers of nodes are whole numbers")
    if not 0 <= lowest <= highest:
        raise malformed(f"minNodeCount {lowest} and maxNodeCount {highest}: the first must be from 0 to the second")
    if idle := scale.get("nodeIdleTimeBeforeScaleDown"):
        _duration(str(idle), "nodeIdleTimeBeforeScaleDown")


def check_idle_shutdown(text: str) -> None:
    """Refuse an idle time before shutdown that is not a duration from 15 minutes to 3 days.

    Raises:
        ServiceRefusalError: 400.
    """
    if not _SHORTEST_IDLE <= _duration(text, "idleTimeBeforeShutdown") <= _LONGEST_IDLE:
        raise malformed(f"idleTimeBeforeShutdown {text!r} is not between 15 minutes and 3 days")


def cores_in_use(computes: Iterable[RestResource], family: str = "") -> int:
    """Return the cores that computes use of the quota of a family, or of all; a stopped instance keeps its cores."""
    used = 0
    for compute in computes:
        settings: Json = compute.properties.get("properties") or {}
        if compute.properties.get("computeType") not in (CLUSTER, INSTANCE) or _is_spot(settings):
            continue
        size = size_of(settings)
        nodes = 1
        if compute.properties["computeType"] == CLUSTER:
            nodes = (settings.get("scaleSettings") or {}).get("minNodeCount") or 0
        used += size.cores * nodes if family in ("", size.family) else 0
    return used


def check_quota(kind: str, settings: Json, others: Iterable[RestResource], limits: RegionLimits) -> None:
    """Refuse a compute if there is no quota for its first node or its minimum number of nodes.

    Raises:
        ServiceRefusalError: 400.
    """
    size = size_of(settings)
    if _is_spot(settings):  # has a separate quota, which is not limited
        return
    nodes = 1
    if kind == CLUSTER:
        nodes = max(1, (settings.get("scaleSettings") or {}).get("minNodeCount") or 0)
    free = limits.family_cores - cores_in_use(others, size.family)
    # A cluster without nodes may be created while others use up the quota, if one node would fit at all.
    least = kind == CLUSTER and not (settings.get("scaleSettings") or {}).get("minNodeCount")
    if size.cores * nodes > (limits.family_cores if least else free):
        message = (
            f"The specified subscription has a Standard {size.family} family vCPU quota of {limits.family_cores} and cannot "
            f"accommodate for at least {nodes} requested managed compute node which maps to {size.cores * nodes} vCPUs; "
            f"{limits.family_cores - free} are in use. Request more quota, or use another size."
        )
        raise ServiceRefusalError(400, "BadRequest", message)


def _is_spot(settings: Json) -> bool:
    return str(settings.get("vmPriority")) == "LowPriority"


def _duration(text: str, what: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise malformed(f"{what} {text!r} is not a duration such as PT30M")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
