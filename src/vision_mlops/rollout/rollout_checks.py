"""Checks that run before a rollout begins, so that no problem of these is found halfway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vision_mlops.core.errors import DeploymentError, RegistryError
from vision_mlops.endpoints.contract import Access, Deployment, Endpoint, EndpointStatus, Say, Target
from vision_mlops.model.bundle import read_bundle
from vision_mlops.registry import ModelVersion, Registry
from vision_mlops.registry.version_index import UNFIT
from vision_mlops.rollout.probe_images import ProbeImage, folder_images, golden_images
from vision_mlops.rollout.probes import Ask
from vision_mlops.rollout.rollout_settings import RolloutLimits, RolloutStep


def check_target(target: Target) -> None:
    """Refuse a target on which nothing can be rolled out. Raises DeploymentError."""
    if not target.splits_traffic:
        raise DeploymentError(
            f"an endpoint on {target.name} has only one deployment, so a rollout is not possible",
            f"deploy the new version with mlops deploy --to {target.name}",
        )


def copied_at_most(target: Target, steps: tuple[RolloutStep, ...], say: Say) -> tuple[RolloutStep, ...]:
    """Return the steps with no more copies than a target gives."""
    most = target.mirrors_at_most
    if all(step.mirror <= most for step in steps):
        return steps
    say(f"an endpoint on {target.name} copies at most {most}% of its requests" if most else
        f"an endpoint on {target.name} copies no requests: the first step has probes only")  # fmt: skip
    return tuple(replace(step, mirror=min(step.mirror, most)) for step in steps)


def champion_of(endpoint: Endpoint) -> Deployment:
    """Return the deployment that a rollout begins from: ready, and with all of the traffic. Raises DeploymentError."""
    champion = endpoint.serving
    if champion is None:
        raise DeploymentError(
            f"no deployment of {endpoint.name!r} has traffic, so there is no champion to compare with",
            f"mlops endpoint traffic {endpoint.name} DEPLOYMENT=100 --on {endpoint.target}, or mlops deploy",
        )
    if champion.traffic != 100:
        shared = ", ".join(f"{item.name} {item.traffic}%" for item in endpoint.deployments if item.traffic)
        raise DeploymentError(
            f"the traffic of {endpoint.name!r} is split already: {shared}",
            f"give all of it to one: mlops endpoint traffic {endpoint.name} {champion.name}=100 --on {endpoint.target}",
        )
    if champion.state is not EndpointStatus.READY:
        raise DeploymentError(f"the champion {champion.name!r} is {champion.state}: {champion.problem}", "fix it first")
    return champion


def check_candidate(endpoint: Endpoint, champion: Deployment, name: str, version: ModelVersion) -> None:
    """Refuse a candidate that is the champion, or whose name another model has. Raises DeploymentError."""
    if champion.reference == version.reference:
        raise DeploymentError(
            f"{version.reference} has the traffic of {endpoint.name!r} already, as {champion.name}",
            "roll out another version",
        )
    for item in endpoint.deployments:
        if item.name == name and item.reference != version.reference:
            raise DeploymentError(
                f"deployment {name!r} of {endpoint.name!r} is {item.reference}", "choose another --deployment"
            )


def check_verdict(version: ModelVersion, say: Say, *, force: bool) -> None:
    """Refuse a version that the gate did not pass. Raises DeploymentError unless ``force`` is set."""
    if version.verdict not in UNFIT:
        return
    told = f"the verdict of the gate on {version.reference} is {version.verdict}"
    if not force:
        raise DeploymentError(told, "roll out another version, or force this one with --force")
    say(f"warning: {told}")


def check_classes(
    registry: Registry, champion: Deployment, version: ModelVersion, limits: RolloutLimits, say: Say, *, force: bool
) -> tuple[RolloutLimits, list[Path]]:
    """Check whether the labels of the two can be compared at all.

    Returns:
        The limits, without one for disagreement if it is meaningless, and the bundles whose golden examples are sent.

    Raises:
        DeploymentError: the classes differ or are not known, and ``force`` is not given.
    """
    mine = registry.bundle_path(version)
    hint = "with --force, labels are not compared"
    try:
        other = registry.bundle_path(registry.get(champion.reference))
    except RegistryError as error:
        if not force:
            message = f"the classes of the champion are not known: {error.message}"
            raise DeploymentError(message, hint) from error
        say("labels are not compared: the champion's bundle is not known")
        return replace(limits, max_disagreement=1.0), [mine]
    classes = [read_bundle(folder).classes for folder in (mine, other)]
    if sorted(classes[0]) == sorted(classes[1]):
        return limits, [mine, other]
    if not force:
        only = sorted(set(classes[0]) ^ set(classes[1]))
        raise DeploymentError(
            f"{version.reference} has other classes than {champion.reference}: only one of them has {', '.join(only)}",
            hint,
        )
    say("labels are not compared: the classes differ")
    return replace(limits, max_disagreement=1.0), [mine, other]


def probe_images(folder: Path | None, bundles: Sequence[Path]) -> list[ProbeImage]:
    """Return images to probe with. Raises DeploymentError if there are none."""
    return folder_images(folder) if folder is not None else golden_images(bundles)


def check_probe(ask: Ask, access: Access, image: ProbeImage, champion: str) -> None:
    """Refuse to begin if even the champion does not score a probe. Raises DeploymentError."""
    response = ask(access, image.path.read_bytes(), image.kind, champion)
    if response.ok and response.deployment == champion:
        return
    told = response.problem if not response.ok else f"{response.deployment} responded"
    raise DeploymentError(
        f"the champion {champion} does not score {image.path.name}: {response.status or 'no response'}, {told}",
        "see `mlops endpoint test` and `mlops endpoint logs`, or give other --images",
    )
