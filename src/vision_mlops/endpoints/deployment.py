"""Deploying a registered model to a target: deploy beside what serves, move the traffic, then remove what it replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import DeploymentRequest, Endpoint, EndpointStatus, Say, Target
from vision_mlops.registry import ModelVersion, Registry

ROLLOUT_TAG = "mlops.rollout"
"""Tag of an endpoint that a rollout changes; holds the state of the rollout."""


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """How the traffic is shared once the new deployment is ready.

    ``share`` is what it gets, in percent; the rest stays in proportion. None gives it all, except that an endpoint that was
    stopped comes back with the shares that it had. ``keep`` does not remove deployments without traffic.
    """

    share: int | None = None
    keep: bool = False


def resolve(registry: Registry, reference: str, *, force: bool = False) -> ModelVersion:
    """Return the version to deploy.

    Raises:
        RegistryError: the version does not exist.
        DeploymentError: its verdict is reject, and ``force`` is not given.
    """
    version = registry.get(reference)
    if version.verdict == "reject" and not force:
        raise DeploymentError(
            f"{version.reference} was rejected by its gate", "deploy another version, or give --force"
        )
    return version


def deploy(
    target: Target, request: DeploymentRequest, plan: TrafficPlan, say: Say, checks: Callable[[], None] = lambda: None
) -> Endpoint:
    """Serve a model version at an endpoint; if anything fails, what served before keeps serving.

    ``checks`` is called once the request is known to make sense, before anything is created; it may refuse.

    Raises:
        DeploymentError: an option does not apply to this target, a rollout is under way, or the target refuses.
    """
    check_options(target, request)
    if plan.share not in (None, 100) and not target.splits_traffic:
        raise DeploymentError(f"--traffic: an endpoint on {target.name} has one deployment", "remove --traffic")
    before = find(target, request.endpoint)
    if before is not None and ROLLOUT_TAG in before.tags:
        raise DeploymentError(
            f"a rollout is in progress at endpoint {before.name!r}",
            f"mlops rollout status {before.name}; then mlops rollout promote or abort",
        )
    target.check(request)
    checks()
    endpoint = target.deploy(request, say)
    if not target.splits_traffic:
        return endpoint
    if plan.share is None and before is not None and _comes_back(before, request):
        say("traffic as before: " + _told({item.name: item.traffic for item in endpoint.deployments}))
        return endpoint
    return _move_traffic(target, endpoint, request.deployment, plan, say)


def _comes_back(before: Endpoint, request: DeploymentRequest) -> bool:
    """Return whether a request restarts what a stopped endpoint had, instead of bringing another version to it."""
    same = (request.deployment, request.model.reference)
    return before.state is EndpointStatus.STOPPED and same in (
        (each.name, each.reference) for each in before.deployments
    )


def check_options(target: Target, request: DeploymentRequest) -> None:
    """Refuse options that do not apply to a target. Raises DeploymentError."""
    unknown = request.options.given() - target.options
    if unknown:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
        raise DeploymentError(f"{names}: not available with --to {target.name}", "remove it; see `mlops deploy --help`")


def render(target: Target, request: DeploymentRequest) -> str:
    """Return the manifests that a deploy would apply. Raises DeploymentError, also where a target has none."""
    check_options(target, request)
    return target.render(request)


def find(target: Target, name: str) -> Endpoint | None:
    """Return an endpoint; None where none has that name."""
    return next((item for item in target.endpoints() if item.name == name), None)


def shares_with(endpoint: Endpoint, deployment: str, share: int) -> dict[str, int]:
    """Return the traffic in which one deployment gets a share, and the others divide the rest in their former proportion."""
    others = {item.name: item.traffic for item in endpoint.deployments if item.name != deployment and item.traffic}
    left, total = 100 - share, sum(others.values())
    if not total:
        return {deployment: 100}
    shares = {name: left * traffic // total for name, traffic in others.items()}
    first = max(shares, key=lambda name: others[name])
    shares[first] += left - sum(shares.values())
    return {deployment: share, **shares}


def _told(shares: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {share}%" for name, share in shares.items())


def _move_traffic(target: Target, endpoint: Endpoint, deployment: str, plan: TrafficPlan, say: Say) -> Endpoint:
    shares = shares_with(endpoint, deployment, 100 if plan.share is None else plan.share)
    if {item.name: item.traffic for item in endpoint.deployments if item.traffic} != {
        name: share for name, share in shares.items() if share
    }:
        endpoint = target.set_traffic(endpoint.name, shares, {})
        say("traffic: " + _told(shares))
    if plan.keep:
        return endpoint
    for item in endpoint.deployments:
        if item.name != deployment and not item.traffic and item.state is not EndpointStatus.CHANGING:
            say(f"removing {item.name} ({item.reference})")
            target.delete_deployment(endpoint.name, item.name)
    return target.endpoint(endpoint.name)
