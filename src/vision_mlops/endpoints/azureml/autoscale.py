"""Autoscale rules of a deployment behind a managed online endpoint: settings of Azure Monitor, in the workspace's group.

They follow the processor's load: an instance more above 70 percent for five minutes, one less below 30. The scale set of the
deployment itself stays on ``default``, as Azure Monitor wants it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors
from vision_mlops.azure.clients import manager_calls
from vision_mlops.config.azure_settings import AzureSettings
from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentOptions

if TYPE_CHECKING:
    from azure.core.rest import HttpResponse

API_VERSION = "2022-10-01"
_ABOVE, _BELOW = 70, 30  # percent of the processors
_WINDOW, _GRAIN, _COOLDOWN = "PT5M", "PT1M", "PT5M"


def check_bounds(options: DeploymentOptions) -> None:
    """Refuse numbers of instances that do not go together. Raises DeploymentError."""
    least, most = options.min_instances, options.max_instances
    if least is None and most is None:
        return
    if least is None or most is None:
        given, other = (
            ("--max-instances", "--min-instances") if least is None else ("--min-instances", "--max-instances")
        )
        raise DeploymentError(f"{given} without {other}: autoscaling needs both bounds", f"give {other}, too")
    if least > most:
        raise DeploymentError(f"--min-instances {least} is above --max-instances {most}", "exchange them")
    if options.instances is not None and not least <= options.instances <= most:
        raise DeploymentError(
            f"--instances {options.instances} is not between --min-instances {least} and --max-instances {most}",
            "leave --instances out: the deployment starts with --min-instances",
        )


class AutoscaleRules:
    """The rules of the deployments of one workspace. All calls raise AzureError.

    Args:
        settings: Of the workspace.
    """

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self._group = f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"

    def ensure(self, endpoint: str, deployment: str, location: str, least: int, most: int) -> bool:
        """Let a deployment have ``least`` to ``most`` instances; says whether that changed anything."""
        wanted = self._definition(endpoint, deployment, location, least, most)
        there = self._find(endpoint, deployment)
        if there is not None and _part_of(wanted["properties"], there.get("properties")):
            return False
        self._call("PUT", endpoint, deployment, wanted)
        return True

    def remove(self, endpoint: str, deployment: str) -> None:
        """Remove the rules of a deployment that was deleted; it may have had none."""
        if self._find(endpoint, deployment) is not None:
            self._call("DELETE", endpoint, deployment)

    def _find(self, endpoint: str, deployment: str) -> dict[str, Any] | None:
        """The rules; None where there are none, or where we may not see them, and so have not made any."""
        answer = self._call("GET", endpoint, deployment, expected=(200, 403, 404))
        return dict(json.loads(answer.text())) if answer.status_code == 200 else None

    def _call(
        self,
        method: str,
        endpoint: str,
        deployment: str,
        body: dict[str, Any] | None = None,
        expected: tuple[int, ...] = (),
    ) -> HttpResponse:
        from azure.core.rest import HttpRequest

        path = f"{self._group}/providers/Microsoft.Insights/autoscaleSettings/{_name(endpoint, deployment)}"
        with azure_errors(f"autoscale rules of deployment {deployment!r}"), manager_calls(self._settings) as client:
            url = f"{self._settings.cloud.resource_manager}{path}"
            request = HttpRequest(method, url, params={"api-version": API_VERSION}, json=body)
            answer: HttpResponse = client.send_request(request)
            if answer.status_code not in expected:
                answer.raise_for_status()
            return answer

    def _definition(self, endpoint: str, deployment: str, location: str, least: int, most: int) -> dict[str, Any]:
        target = (
            f"{self._group}/providers/Microsoft.MachineLearningServices/workspaces/{self._settings.workspace_name}"
            f"/onlineEndpoints/{endpoint}/deployments/{deployment}"
        )
        capacity = {"minimum": str(least), "maximum": str(most), "default": str(least)}
        rules = [
            _rule(target, "GreaterThan", _ABOVE, "Increase"),
            _rule(target, "LessThan", _BELOW, "Decrease"),
        ]
        return {
            "location": location,
            "properties": {
                "enabled": True,
                "targetResourceUri": target,
                "profiles": [{"name": "load", "capacity": capacity, "rules": rules}],
            },
        }


def _name(endpoint: str, deployment: str) -> str:
    return f"{endpoint}-{deployment}"


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
    """Whether all that is wanted is there; what the service adds does not count."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_part_of(value, there.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(wanted) == len(there) and all(map(_part_of, wanted, there))
    return bool(wanted == there)
