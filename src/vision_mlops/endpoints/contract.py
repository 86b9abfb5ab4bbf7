"""What a target is: a place where endpoints live, each with deployments of model versions that share its traffic.

An endpoint has an address that stays; a deployment is one model version behind it. The words are Azure ML's, and the
same on every target.
"""

from __future__ import annotations

import abc
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import DeploymentError
from vision_mlops.registry import ModelVersion, Registry

Say = Callable[[str], None]
DEPLOYMENT_HEADER = "azureml-model-deployment"
"""Header of a request that picks a deployment, whatever the traffic; in a response, the deployment that gave it."""
_NAME = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]")


class EndpointStatus(StrEnum):
    """State of an endpoint or deployment."""

    READY = "ready"
    CHANGING = "changing"  # being created, updated or deleted
    FAILED = "failed"
    STOPPED = "stopped"  # known, but not running


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model version behind an endpoint.

    ``traffic`` is its share of the requests in percent, ``mirror`` the share of which it gets copies. ``problem`` says why
    it is not ready. ``machine`` is what one instance runs on, where that costs: a size, or ``2 CPU, 4 GB``.
    """

    name: str
    model: str
    version: str
    state: EndpointStatus
    traffic: int = 0
    mirror: int = 0
    instances: int = 1
    problem: str = ""
    machine: str = ""

    @property
    def reference(self) -> str:
        """``NAME:VERSION`` of its model."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address where images are scored. ``url`` is that of the scoring route.

    ``auth`` is how requests sign in: none, key, aad_token or aml_token. ``tags`` are stored with the endpoint.
    """

    name: str
    target: str
    state: EndpointStatus
    url: str = ""
    auth: str = "key"
    deployments: tuple[Deployment, ...] = ()
    problem: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def deployment(self, name: str) -> Deployment:
        """Return one of its deployments. Raises DeploymentError."""
        for item in self.deployments:
            if item.name == name:
                return item
        known = ", ".join(item.name for item in self.deployments) or "none"
        raise DeploymentError(f"endpoint {self.name!r} has no deployment {name!r}", f"it has: {known}")

    @property
    def serving(self) -> Deployment | None:
        """The deployment with the largest share of the traffic; None where none has any."""
        best = max(self.deployments, key=lambda item: item.traffic, default=None)
        return best if best is not None and best.traffic else None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DeploymentOptions:
    """Options of a deployment; None or empty leaves the choice to the target. See `mlops deploy --help`.

    ``environment`` are variables of the server, ``memory_gb`` is in units of 2^30 bytes, ``timeout_s`` is how long it may
    take to become ready. ``min_instances`` and ``max_instances`` are the bounds of autoscaling.
    """

    port: int | None = None
    workers: int | None = None
    image: str = ""
    bake: bool = False
    score_script: bool = False
    instance_type: str = ""
    instances: int | None = None
    min_instances: int | None = None
    max_instances: int | None = None
    cpu: float | None = None
    memory_gb: float | None = None
    compute: str = ""
    namespace: str = ""
    dns_label: str = ""
    auth: str = ""
    host: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None

    def given(self) -> frozenset[str]:
        """Return the names of the fields that were set."""
        return frozenset(name for name, value in asdict(self).items() if value not in (None, "", False, {}))


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """A request to serve a model version as ``deployment`` behind ``endpoint``."""

    endpoint: str
    deployment: str
    model: ModelVersion
    registry: Registry
    options: DeploymentOptions = DeploymentOptions()

    def bundle(self) -> Path:
        """Return the folder of the model's bundle on this machine, and fetch it where needed."""
        return self.registry.bundle_path(self.model).absolute()


@dataclass(frozen=True, slots=True)
class Access:
    """How requests reach an endpoint. ``headers`` may hold a key: never print or log it.

    ``deployments`` are addresses of deployments that have one of their own, beside the header that picks them.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    deployments: Mapping[str, str] = field(default_factory=dict)


LATENCY_BOUNDS_MS = tuple(round(1.1**power, 3) for power in range(110))
"""Upper bounds of the buckets of :attr:`Counts.latencies`, 1 ms to 32 s, ten percent apart; the last bucket has none."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an endpoint has counted of a deployment since it was created; the difference of two is what happened in between.

    ``errors`` are responses of 500 and above and requests without a response, which callers do not cause. ``compared`` are
    copies whose response was compared with the one that the caller got, ``disagreed`` those of them with another label.
    ``latencies`` are the numbers of responses by bucket (one more than bounds), of the deployment alone.
    """

    requests: int = 0
    errors: int = 0
    compared: int = 0
    disagreed: int = 0
    latencies: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed by the deployment's fault; 0 without any."""
        return self.errors / self.requests if self.requests else 0.0

    def __add__(self, more: Counts) -> Counts:
        """Return both together."""
        return self._combined(more, operator.add)

    def __sub__(self, earlier: Counts) -> Counts:
        """Return what was counted since an earlier reading."""
        return self._combined(earlier, operator.sub)

    def _combined(self, other: Counts, how: Callable[[int, int], int]) -> Counts:
        counted: dict[str, Any] = {
            item.name: how(getattr(self, item.name), getattr(other, item.name))
            for item in fields(self)
            if item.name != "latencies"
        }
        return Counts(**counted, latencies=tuple(map(how, self.latencies, other.latencies)))


NOTHING_COUNTED = Counts()


class Target(abc.ABC):
    """What every target offers. What is missing or refused raises DeploymentError, on Azure AzureError.

    What is implemented here holds for a target whose endpoints have one deployment, which a new one replaces.
    """

    name: str
    options: frozenset[str]
    """The fields of :class:`DeploymentOptions` that mean something here."""
    mirrors_at_most = 0
    """Largest percentage of the requests that a deployment can get copies of."""

    @property
    def splits_traffic(self) -> bool:
        """Whether an endpoint can have several deployments."""
        return False

    def check(self, request: DeploymentRequest) -> None:  # noqa: B027 - most targets need the network for that
        """Refuse what cannot be deployed, before anything is sent. Raises DeploymentError."""

    def render(self, request: DeploymentRequest) -> str:
        """Return the manifests as text, without secrets, and change nothing. Raises DeploymentError where there are none."""
        raise DeploymentError(f"--render: not available with --to {self.name}, which has no manifests", "remove it")

    @abc.abstractmethod
    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        """Create the endpoint if it is new, and the deployment, and wait until it is ready.

        The same request again changes nothing. Where traffic splits, the first deployment gets all of it, and a further one
        gets none. A deployment that does not become ready is removed again, unless it was there before, and the error
        contains the last lines of its log.
        """

    @abc.abstractmethod
    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints that this package created here, as they are now, by name."""

    @abc.abstractmethod
    def endpoint(self, name: str) -> Endpoint:
        """Return one endpoint as it is now."""

    @abc.abstractmethod
    def access(self, name: str) -> Access:
        """Return where to send requests, with what authorises them."""

    @abc.abstractmethod
    def logs(self, name: str, deployment: str, lines: int) -> str:
        """Return the last lines of a deployment's log."""

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        """Set the traffic, in percent by deployment; those not named get none. Takes effect as one change.

        Args:
            name: Endpoint.
            traffic: Adds up to 100; a deployment that is not ready gets none.
            mirror: At most one deployment, without traffic: percent of the requests of which it gets a copy.
        """
        raise DeploymentError(
            f"an endpoint on {self.name} has one deployment",
            "deploy another version, or use --to local to share traffic",
        )

    def counts(self, name: str) -> Mapping[str, Counts] | None:
        """Return what the endpoint itself has counted, by deployment; None where the target does not count."""
        return None

    @abc.abstractmethod
    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an endpoint."""

    @abc.abstractmethod
    def keys(self, name: str) -> Mapping[str, str]:
        """Return the keys ``primary`` and ``secondary``. Never print or log them."""

    def rotate_key(self, name: str, which: str) -> None:
        """Replace the key ``primary`` or ``secondary``; the other one stays valid."""
        self.keys(name)  # where endpoints have no keys, this refuses

    def delete_deployment(self, name: str, deployment: str) -> None:
        """Remove a deployment that has no traffic, and everything that runs for it."""
        self.endpoint(name).deployment(deployment)
        raise DeploymentError(
            f"{deployment!r} is the only deployment of endpoint {name!r}",
            f"mlops endpoint delete {name} --on {self.name}",
        )

    @abc.abstractmethod
    def delete(self, name: str) -> None:
        """Remove an endpoint with all its deployments, and everything that runs for them."""


def silent(text: str) -> None:
    """Discard what is said."""


def check_name(what: str, name: str) -> str:
    """Return a name that every target accepts for an endpoint or deployment. Raises DeploymentError for any other."""
    if not _NAME.fullmatch(name):
        hint = "use 3 to 32 lower-case letters, digits and '-', starting with a letter and not ending with '-'"
        raise DeploymentError(f"{name!r} cannot be the name of {what}", hint)
    return name


def endpoint_name(model: str) -> str:
    """Return the default name of an endpoint: its model's, in letters that all targets accept."""
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    name = name if name[:1].isalpha() else f"m-{name}"
    return name[:32].rstrip("-") if len(name) >= 3 else f"{name}-model"


def deployment_name(version: int) -> str:
    """Return the name of a model version's deployment."""
    return f"version-{version}"


def check_no_traffic(endpoint: Endpoint, deployment: str) -> None:
    """Refuse to delete a deployment that has traffic. Raises DeploymentError, which says how to move or delete it."""
    share = endpoint.deployment(deployment).traffic
    if not share:
        return
    others = [item for item in endpoint.deployments if item.name != deployment]
    if not others:
        raise DeploymentError(
            f"{deployment} has {share}% of the traffic and is the only deployment of endpoint {endpoint.name!r}",
            f"delete the endpoint: mlops endpoint delete {endpoint.name} --on {endpoint.target}",
        )
    other = next((item for item in others if item.state is EndpointStatus.READY), others[0])
    raise DeploymentError(
        f"{deployment} has {share}% of the traffic",
        f"move it first: mlops endpoint traffic {endpoint.name} {other.name}=100 --on {endpoint.target}",
    )


def check_traffic(endpoint: Endpoint, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> None:
    """Refuse shares that no target accepts. Raises DeploymentError."""
    for name, share in [*traffic.items(), *mirror.items()]:
        found = endpoint.deployment(name)
        if not 0 <= share <= 100:
            raise DeploymentError(f"{name}={share}: a share is 0 to 100 percent", "give shares that add up to 100")
        if share and found.state is not EndpointStatus.READY:
            problem = f": {found.problem}" if found.problem else ""
            raise DeploymentError(f"deployment {name!r} is {found.state}{problem}", "deploy it again, or delete it")
    if sum(traffic.values()) != 100:
        raise DeploymentError(
            f"the traffic adds up to {sum(traffic.values())} percent", "give shares that add up to 100"
        )
    mirrored = [name for name, share in mirror.items() if share]
    if len(mirrored) > 1 or any(traffic.get(name) for name in mirrored):
        raise DeploymentError(
            "one deployment without traffic can get copies of requests",
            "set its traffic to 0, and send copies to it alone",
        )
