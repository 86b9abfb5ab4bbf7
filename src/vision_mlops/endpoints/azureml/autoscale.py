"""Autoscale rules of a deployment behind a managed online endpoint: settings of Azure Monitor, in the workspace's group.

They follow the load of the processors: one instance more above 70 percent for five minutes, one less below 30. The scale set
of the deployment itself stays on ``default``, as Azure Monitor requires.
"""

from __future__ import annotations

from typing import Any

from vision_mlops.azure.resource_manager import ResourceManager
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions

API_VERSION = "2022-10-01"
_ABOVE, _BELOW = 70, 30  # percent of the processors
_WINDOW, _GRAIN, _COOLDOWN = "PT5M", "PT1M", "PT5M"


def check_bounds(options: DeploymentOptions) -> None:
    """Refuse numbers of instances that contradict each other. Raises DeploymentError."""
    least, most = options.min_instances, options.max_instances
    if least is None and most is None:
        return
    if least is None or most is None:
        given, other = (
            ("--max-instances", "--min-instances") if least is None else ("--min-instances", "--max-instances")
        )
        raise DeploymentError(f"{given} without {other}: autoscaling needs both bounds", f"give {other} as well")
    if least > most:
        raise DeploymentError(f"--min-instances {least} is above --max-instances {most}", "swap them")
    if options.instances is not None and not least <= options.instances <= most:
        raise DeploymentError(
            f"--instances {options.instances} is not between --min-instances {least} and --max-instances {most}",
            "remove --instances: the deployment starts with --min-instances",
        )


def ensure_rules(settings: AzureSettings, endpoint: str, deployment: str, location: str, least: int, most: int) -> bool:
    """Let a deployment have ``least`` to ``most`` instances; return whether that changed anything. Raises AzureError."""
    manager = ResourceManager(settings)
    wanted = _definition(manager, endpoint, deployment, location, least, most)
    there = _call(manager, "GET", endpoint, deployment)
    if _part_of(wanted["properties"], there.get("properties")):
        return False
    _call(manager, "PUT", endpoint, deployment, wanted)
    return True


def remove_rules(settings: AzureSettings, endpoint: str, deployment: str) -> None:
    """Remove the rules of a deployment that was deleted, if it had any. Raises AzureError."""
    manager = ResourceManager(settings)
    if _call(manager, "GET", endpoint, deployment):
        _call(manager, "DELETE", endpoint, deployment)


def _call(
    manager: ResourceManager, method: str, endpoint: str, deployment: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    path = f"{manager.group}/providers/Microsoft.Insights/autoscaleSettings/{endpoint}-{deployment}"
    # Rules that do not exist, or that we may not see and so have not made, are empty.
    accepted = (403, 404) if method == "GET" else ()
    what = f"autoscale rules of deployment {deployment!r}"
    return manager.call(method, what, path, API_VERSION, body, accepted=accepted)


def _definition(
    manager: ResourceManager, endpoint: str, deployment: str, location: str, least: int, most: int
) -> dict[str, Any]:
    target = f"{manager.workspace}/onlineEndpoints/{endpoint}/deployments/{deployment}"
    rules = [_rule(target, "GreaterThan", _ABOVE, "Increase"), _rule(target, "LessThan", _BELOW, "Decrease")]
    capacity = {"minimum": str(least), "maximum": str(most), "default": str(least)}
    profiles = [{"name": "load", "capacity": capacity, "rules": rules}]
    properties = {"enabled": True, "targetResourceUri": target, "profiles": profiles}
    return {"location": location, "properties": properties}


def _rule(target: str, operator: str, threshold: int, direction: str) -> dict[str, Any]:
    return {
        "metricTrigger": {
            "metricName": "CpuUtilizationPercentage",
            "metricResourceUri": target,
            "timeGrain": _GRAIN,
            "statistic": "Average",
            "timeWindow": _WINDOW,
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": threshold,
        },
        "scaleAction": {"direction": direction, "type": "ChangeCount", "value": "1", "cooldown": _COOLDOWN},
    }


def _part_of(wanted: Any, there: Any) -> bool:
    """Return whether everything that is wanted is there; what the service adds does not count."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_part_of(value, there.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(wanted) == len(there) and all(map(_part_of, wanted, there))
    return bool(wanted == there)
