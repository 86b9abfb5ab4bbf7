"""Check the verdicts of rollouts on a busy machine: an equal version is promoted, a worse one is not.

    python -m benchmarks.rollout [--rounds 10] [--connections 0 2 4 8] [--bundle BUNDLE] [--only NAME ...]

An endpoint of this machine serves a network of full size with a worker per core, `wrk` sends images to it over so many
connections, and candidates are rolled out with the default steps and limits: the same network again, one that is over twice
as slow, one that fails every tenth image, one whose classes are swapped. The exit code is 1 where one was judged wrongly, or
where a bad one got past the first step.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from benchmarks.serving.load import check_wrk
from benchmarks.serving.pictures import small
from testing.support.rollout_world import MemoryRegistry

import vision_mlops
from vision_mlops.endpoints.contract import DeploymentOptions, DeploymentRequest
from vision_mlops.endpoints.local.target import LocalTarget
from vision_mlops.model.bundle import MANIFEST, bundle_id, read_bundle, write_bundle
from vision_mlops.registry import CHAMPION, ModelVersion, Registry
from vision_mlops.rollout.driver import RolloutResult
from vision_mlops.rollout.rollout_control import start
from vision_mlops.rollout.rollout_endpoint import Controls
from vision_mlops.rollout.rollout_report import RolloutOutcome
from vision_mlops.rollout.rollout_settings import RolloutLimits

NAME = "rollout-benchmark"
SAME, SLOW, FAILING, SWAPPED = "the same again", "over twice as slow", "fails every tenth", "classes swapped"
TROUBLE = """
import os
from vision_mlops.serving.scoring_queue import Scorer
from vision_mlops.model.predictor import Predictor

times, every, count = int(os.environ.get("TIMES", 1)), int(os.environ.get("EVERY", 0)), 0
inner, scored = Scorer._outcome, Predictor.score


def outcome(self, job):
    global count
    count += 1
    return (None, RuntimeError("injected")) if every and count % every == 0 else inner(self, job)


def score(self, *images, **options):
    for _ in range(times - 1):
        scored(self, *images, **options)
    return scored(self, *images, **options)


Scorer._outcome, Predictor.score = outcome, score
"""
"""Code that the servers of a candidate run before they start."""


def versions(bundle: Path, folder: Path) -> dict[int, Path]:
    """Create two equal versions of a model, and a third one that predicts another class for everything."""
    made = {number: folder / str(number) for number in (1, 2, 3)}
    for number, copy in made.items():
        shutil.copytree(bundle, copy)
        described = read_bundle(copy).model_copy(update={"name": NAME, "data_fingerprint": f"version {number}"})
        if number == 3:
            classes = described.classes[::-1]
            golden = [
                example.model_copy(update={"label": classes[example.probabilities.index(max(example.probabilities))]})
                for example in described.golden
            ]
            described = described.model_copy(update={"classes": classes, "golden": golden})
        (copy / MANIFEST).unlink()
        write_bundle(copy, described)
    return made


class Site:
    """An endpoint with a champion, with which candidates are compared."""

    def __init__(self, bundles: dict[int, Path], folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(TROUBLE)
        self._path = f"{folder}{os.pathsep}{Path(vision_mlops.__file__).parents[1]}"
        self.target, self.champion = LocalTarget(), 1
        self.registry = MemoryRegistry(
            {number: self._version(number, path) for number, path in bundles.items()}, bundles
        )
        self.url = self.target.deploy(self._request(1), lambda text: None).url

    @staticmethod
    def _version(number: int, bundle: Path) -> ModelVersion:
        described = read_bundle(bundle)
        return ModelVersion(NAME, number, (CHAMPION,) if number == 1 else (), bundle_id=bundle_id(described))

    def _request(self, number: int, **trouble: int) -> DeploymentRequest:
        variables = {"PYTHONPATH": self._path} | {name: str(value) for name, value in trouble.items()}
        options = DeploymentOptions(environment=variables)
        model = self.registry.versions[number]
        return DeploymentRequest(NAME, f"version-{number}", model, cast(Registry, self.registry), options)

    def roll_out(self, candidate: str) -> RolloutResult:
        """Run one rollout with the defaults; a promoted candidate is the champion of the next one."""
        number = 3 if candidate == SWAPPED else 3 - self.champion
        trouble = {SLOW: {"TIMES": 3}, FAILING: {"EVERY": 10}}.get(candidate, {})
        controls = Controls(self.target, cast(Registry, self.registry), NAME, lambda text: None)
        result = start(controls, self._request(number, **trouble), limits=RolloutLimits())
        if result.outcome is RolloutOutcome.PROMOTED:
            self.champion = number
        return result


@contextlib.contextmanager
def load(url: str, connections: int) -> Iterator[None]:
    """Send images over some connections for as long as the context lasts."""
    if not connections:
        yield
        return
    script = Path(__file__).parent / "serving" / "post.lua"
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", "3600s", "-s", str(script), url, "--"]
    command += [url[url.index("/", 8) :], "image/jpeg", *map(str, small())]
    sender = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        sender.terminate()
        sender.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--connections", type=int, nargs="+", default=[0, 2, 4, 8])
    parser.add_argument("--bundle", type=Path, help="model bundle; by default an untrained one of full size")
    parser.add_argument("--only", nargs="+", choices=[SAME, SLOW, FAILING, SWAPPED])
    options = parser.parse_args()
    check_wrk()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="rollout-") as folder:
        os.environ["MLOPS_HOME"] = folder
        bundle = options.bundle or Path(folder, "untrained")
        if options.bundle is None:
            from benchmarks.serving.untrained import write

            write(bundle)
        site = Site(versions(bundle, Path(folder, "versions")), Path(folder))
        try:
            for connections in options.connections:
                for candidate in options.only or (SAME, SLOW, FAILING, SWAPPED):
                    for _ in range(options.rounds if candidate == SAME else 1):
                        with load(site.url, connections):
                            wrong += not judged_rightly(site, candidate, connections)
        finally:
            site.target.delete(NAME)
    raise SystemExit(1 if wrong else 0)


def judged_rightly(site: Site, candidate: str, connections: int) -> bool:
    """Return whether a candidate ends as it should; print how it ended."""
    started = time.monotonic()
    result = site.roll_out(candidate)
    seconds = time.monotonic() - started
    steps = len(result.report.content["steps"]) if result.report is not None else 0
    right = (
        result.outcome is RolloutOutcome.PROMOTED
        if candidate == SAME
        else (result.outcome is RolloutOutcome.ROLLED_BACK and steps == 1)
    )
    print(
        f"{connections} connections, {candidate}: {result.outcome} after {seconds:.0f} s at step {steps}"
        f"{'' if right else '  <-- wrong'}{''.join(f'; {reason}' for reason in result.reasons)}",
        flush=True,
    )
    return right


if __name__ == "__main__":
    main()
