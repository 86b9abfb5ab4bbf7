"""A target, a registry and models in memory, on which rollouts run in milliseconds and any call can go wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from vision_mlops.core.errors import DeploymentError, RegistryError
from vision_mlops.endpoints.contract import (
    LATENCY_BOUNDS_MS,
    Access,
    Counts,
    Deployment,
    DeploymentOptions,
    DeploymentRequest,
    Endpoint,
    EndpointStatus,
    Say,
    Target,
    check_traffic,
)
from vision_mlops.endpoints.deployment import ROLLOUT_TAG
from vision_mlops.endpoints.scoring_client import ScoringResponse
from vision_mlops.model.bundle import Bundle, GoldenExample, Preprocessing, write_bundle
from vision_mlops.registry import CHAMPION, ModelVersion, Registry
from vision_mlops.rollout.rollout_endpoint import Controls
from vision_mlops.rollout.rollout_settings import Pace, RolloutLimits, parse_steps

PACE = Pace(probe_rate=5000, tick=0.001, look=0.002, beat=0.02, lease=5, patience=0, warm_up=1)
LIMITS = RolloutLimits(min_requests=5, min_seconds=0, step_timeout=60)
STEPS = parse_steps("mirror=50,50,100")


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Behaviour:
    """How a deployment answers. ``every``: each request of this number fails; ``milliseconds`` is what it says to take."""

    wrong: bool = False
    every: int = 0
    status: int = 500
    milliseconds: float = 10.0
    work: bool = True
    asked: int = 0


@dataclass
class MemoryTarget(Target):
    """One endpoint. ``before`` is called with the name of each call that changes or reads something, and may raise.

    ``live`` requests arrive between two readings of the counts; ``counting`` False tells none.
    """

    name: str = "memory"
    splits_traffic: bool = True
    mirrors_at_most: int = 100
    options: frozenset[str] = frozenset({"workers", "environment"})
    counting: bool = True
    live: int = 0
    before: Callable[[str], None] = lambda call: None
    after: Callable[[str], None] = lambda call: None
    deployments: dict[str, Deployment] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=lambda: {"owner": "somebody"})
    seen: dict[str, Counts] = field(default_factory=dict)
    history: list[tuple[dict[str, int], dict[str, int]]] = field(default_factory=list)
    broken: str = ""
    """Why no further deployment becomes ready."""

    def __post_init__(self) -> None:
        self.guard = threading.RLock()

    def deploy(self, request: DeploymentRequest, say: Say) -> Endpoint:
        self.before("deploy")
        if self.broken:
            raise DeploymentError(self.broken, "see its log")
        first = not any(item.traffic for item in self.deployments.values())
        if request.deployment not in self.deployments:
            self.deployments[request.deployment] = Deployment(
                request.deployment,
                request.model.name,
                str(request.model.version),
                EndpointStatus.READY,
                100 if first else 0,
            )
            self.behaviours.setdefault(request.deployment, Behaviour())
        self.after("deploy")
        return self._endpoint()

    def endpoints(self) -> list[Endpoint]:
        self.before("endpoints")
        return [self._endpoint()]

    def endpoint(self, name: str) -> Endpoint:
        self.before("endpoint")
        return self._endpoint()

    def access(self, name: str) -> Access:
        self.before("access")
        return Access("memory:")

    def logs(self, name: str, deployment: str, lines: int) -> str:
        self.before("logs")
        return f"log of {deployment}"

    def set_traffic(self, name: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> Endpoint:
        self.before("set_traffic")
        check_traffic(self._endpoint(), traffic, mirror)
        for item in self.deployments.values():
            self.deployments[item.name] = replace(
                item, traffic=traffic.get(item.name, 0), mirror=mirror.get(item.name, 0)
            )
        self.history.append((dict(traffic), dict(mirror)))
        self.after("set_traffic")
        return self._endpoint()

    def counts(self, name: str) -> Mapping[str, Counts] | None:
        self.before("counts")
        with self.guard:
            for item in list(self.deployments.values()):
                for _ in range(self.live * max(item.traffic, item.mirror) // 100):
                    self.answer(item.name)
            return dict(self.seen) if self.counting else None

    def set_tags(self, name: str, tags: Mapping[str, str]) -> None:
        self.before("set_tags")
        assert all(len(value) <= 256 for value in tags.values())
        self.tags = dict(tags)
        self.after("set_tags")

    def keys(self, name: str) -> Mapping[str, str]:
        raise NotImplementedError

    def rotate_key(self, name: str, which: str) -> None:
        raise NotImplementedError

    def delete_deployment(self, name: str, deployment: str) -> None:
        self.before("delete_deployment")
        assert not self.deployments[deployment].traffic
        del self.deployments[deployment]
        self.after("delete_deployment")

    def delete(self, name: str) -> None:
        raise NotImplementedError

    def ask(self, access: Access, image: bytes, kind: str, deployment: str) -> ScoringResponse:
        """What takes the place of a request over HTTP."""
        return self.answer(deployment, image.decode())

    def answer(self, deployment: str, label: str = "a") -> ScoringResponse:
        with self.guard:
            does = self.behaviours[deployment]
            does.asked += 1
            failed = bool(does.every) and does.asked % does.every == 0
            bucket = sum(bound < does.milliseconds for bound in LATENCY_BOUNDS_MS)
            was = self.seen.get(deployment, Counts())
            latencies = tuple(count + (place == bucket) for place, count in enumerate(was.latencies))
            errors = was.errors + (failed and (does.status >= 500 or not does.status))
            self.seen[deployment] = replace(was, requests=was.requests + 1, errors=errors, latencies=latencies)
        if failed:
            return ScoringResponse(does.status, 0.001, {}, deployment, "it failed")
        given = {"a": "b", "b": "a"}[label] if does.wrong else label
        body: dict[str, Any] = {"predictions": [{"label": given, "probability": 1.0}]}
        if does.work:
            body["timing"] = {"work_ms": does.milliseconds - 1}
        return ScoringResponse(200, does.milliseconds / 1000, body, deployment)

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            "colours",
            self.name,
            EndpointStatus.READY,
            "memory:",
            "none",
            tuple(self.deployments.values()),
            "",
            dict(self.tags),
        )


@dataclass
class MemoryRegistry:
    """Versions of one model."""

    versions: dict[int, ModelVersion]
    bundles: dict[int, Path]
    promoted: list[int] = field(default_factory=list)
    before: Callable[[str], None] = lambda call: None

    def get(self, ref: str) -> ModelVersion:
        number = int(ref.partition(":")[2])
        if number not in self.versions:
            raise RegistryError(f"there is no {ref}")
        return self.versions[number]

    def promote(self, name: str, version: int, alias: str = CHAMPION, *, force: bool = False) -> ModelVersion:
        self.before("promote")
        if self.versions[version].verdict == "reject" and not force:
            raise RegistryError(f"{name}:{version} was rejected")
        for number, item in self.versions.items():
            self.versions[number] = replace(item, aliases=(alias,) if number == version else ())
        self.promoted.append(version)
        return self.versions[version]

    def bundle_path(self, version: ModelVersion) -> Path:
        return self.bundles[version.version]


def tiny_bundle(folder: Path, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """A whole bundle whose golden images are their labels."""
    (folder / "golden").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "weights.safetensors").write_bytes(b"weights")
    golden = []
    for label in classes:
        (folder / "golden" / f"{label}.png").write_text(label)
        golden.append(GoldenExample(file=f"golden/{label}.png", label=label, probabilities=[0.5] * len(classes)))
    draft = Bundle(name="colours", classes=list(classes), preprocessing=Preprocessing(image_size=32), backbone="tiny",
                   data_fingerprint="f" * 64, golden=golden)  # fmt: skip
    write_bundle(folder, draft)
    return folder


@dataclass
class World:
    """Endpoint ``colours``, whose deployment version-1 has the traffic, and version 2 of the model."""

    target: MemoryTarget
    registry: MemoryRegistry
    said: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    @classmethod
    def make(cls, bundle: Path, **options: Any) -> World:
        registry = MemoryRegistry(
            {number: ModelVersion("colours", number, (CHAMPION,) if number == 1 else ()) for number in (1, 2, 3)},
            dict.fromkeys((1, 2, 3), bundle),
        )
        target = MemoryTarget(**options)
        world = cls(target, registry)
        target.deploy(world.request(1), lambda text: None)
        target.history.clear()
        return world

    def request(self, number: int, options: DeploymentOptions | None = None) -> DeploymentRequest:
        version = self.registry.versions[number]
        return DeploymentRequest(
            "colours", f"version-{number}", version, cast(Registry, self.registry), options or DeploymentOptions()
        )

    def controls(self, **changes: Any) -> Controls:
        target: Target = self.target
        return replace(
            Controls(
                target, cast(Registry, self.registry), "colours", self.said.append, pace=PACE, ask=self.target.ask
            ),
            **changes,
        )

    def behave(self, **how: Any) -> None:
        """How the candidate answers."""
        self.target.behaviours["version-2"] = Behaviour(**how)

    def has_only(self, number: int) -> None:
        """Assert that the rollout is over, and whole: one deployment, with all traffic, and the alias where it belongs."""
        (left,) = self.target.deployments.values()
        assert (left.name, left.traffic, left.mirror) == (f"version-{number}", 100, 0)
        assert self.target.tags == {"owner": "somebody"}
        assert [version for version, item in self.registry.versions.items() if item.aliases] == [number]

    def under_way(self) -> bool:
        return ROLLOUT_TAG in self.target.tags
