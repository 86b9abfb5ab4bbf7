"""Deploys the first version of an endpoint, which gets all traffic at once because there is no champion."""

from __future__ import annotations

from vision_mlops.endpoints.contract import DeploymentRequest
from vision_mlops.endpoints.deployment import TrafficPlan, deploy, find
from vision_mlops.registry import CHAMPION
from vision_mlops.rollout.driver import RolloutResult
from vision_mlops.rollout.rollout_checks import check_target, check_verdict
from vision_mlops.rollout.rollout_endpoint import Controls
from vision_mlops.rollout.rollout_report import RolloutOutcome
from vision_mlops.rollout.rollout_settings import RolloutOptions
from vision_mlops.rollout.rollout_state import rollout_of


def make_first(controls: Controls, request: DeploymentRequest, wishes: RolloutOptions) -> RolloutResult | None:
    """Create the endpoint with the candidate, if no deployment of it serves.

    So the same command in a pipeline works for the first version and for every later one, and can be repeated.

    Args:
        controls: Endpoint, and where its models are.
        request: The candidate's deployment.
        wishes: Whether to leave the alias, and to accept a version that the gate did not pass.

    Returns:
        How it ended; None if there is a champion to roll out beside.

    Raises:
        DeploymentError: something speaks against it, or the target refuses.
    """
    check_target(controls.target)
    endpoint = find(controls.target, controls.endpoint)
    if endpoint is not None and rollout_of(endpoint) is not None:
        return None
    serving = endpoint.serving if endpoint is not None else None
    if serving is not None and (serving.traffic != 100 or serving.reference != request.model.reference):
        return None
    if serving is None:
        check_verdict(request.model, controls.say, force=wishes.force)
        deploy(controls.target, request, TrafficPlan(), controls.say)
        told = f"{request.model.reference} is the first version of {controls.endpoint}: it has all traffic"
    else:
        told = f"{request.model.reference} has all traffic of {controls.endpoint} already: nothing to do"
    if not wishes.no_alias and CHAMPION not in controls.registry.get(request.model.reference).aliases:
        controls.registry.promote(request.model.name, request.model.version, CHAMPION, force=wishes.force)
    return RolloutResult(RolloutOutcome.PROMOTED, (told,))
