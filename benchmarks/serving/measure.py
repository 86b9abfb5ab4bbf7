"""Rounds in which the systems take turns, so that changes of the machine's speed affect all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving import load
from benchmarks.serving.environments import Environment
from benchmarks.serving.load import Load
from benchmarks.serving.systems import PATH, Running, System, run_loop, serving, top

TOLERANCE = 0.02
"""Maximum difference between a server's probability and the predictor's."""
SMALL, LARGE = "small", "large"
Expected = dict[Path, tuple[str, float]]


@dataclass
class Results:
    """The measurements of one system, a number per round; loads and memory (PSS in MB after the load) by size of image."""

    loads: dict[str, list[Load]] = field(default_factory=dict)
    megabytes: dict[str, list[float]] = field(default_factory=dict)
    ready_seconds: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        loads = {size: [each.to_dict() for each in loads] for size, loads in self.loads.items()}
        return {"loads": loads, "ready_seconds": self.ready_seconds, "pss_megabytes": self.megabytes}


@dataclass(frozen=True)
class Plan:
    """What is sent, and for how long. ``seconds`` is by size of image, ``edge`` is the network's input in pixels."""

    pictures: dict[str, list[Path]]
    bundles: Callable[[System], Path]
    environments: dict[str, Environment]
    rounds: int
    seconds: dict[str, int]
    warm_up: int
    edge: int

    def compared(self, system: System, expected: Expected) -> Expected:
        """Return what is expected of a system, for all pictures or, if its pixels differ by design, for the small ones."""
        if not system.own_scale:
            return expected
        return {file: answer for file, answer in expected.items() if file in self.pictures.get(SMALL, [])}


def expectation(bundle: Path, pictures: dict[str, list[Path]]) -> Expected:
    """Return label and probability that the predictor gives each picture in full precision."""
    from vision_mlops.model.predictor import Predictor

    predictor = Predictor(bundle, threads=1)
    files = [file for several in pictures.values() for file in several]
    rows = zip(files, predictor.score_files(files, batch_size=1), strict=True)
    return {file: predictor.top(row, 1)[0] for file, row in rows}


def difference(file: Path, answer: tuple[str, float], expected: tuple[str, float]) -> str:
    """Return how a response differs from the predictor's, or ""."""
    (given, sure), (label, probability) = answer, expected
    if given == label and abs(sure - probability) <= TOLERANCE:
        return ""
    return f"{file.name} is {given} with {sure:.4f}, but {label} with {probability:.4f} for the predictor"


def check_answers(running: Running, pictures: Iterable[Path], expected: Expected) -> None:
    """Request each picture. Raises SystemExit if one gets no response, or an unexpected one."""
    for file in pictures:
        status, body = running.ask(file.read_bytes())
        if status != 200:
            raise running.fail(f"{file.name} was answered with {status}: {body[:300]!r}")
        try:
            answer = top(body)
        except ValueError as error:
            raise running.fail(f"{file.name}: {error}") from error
        if file in expected and (problem := difference(file, answer, expected[file])):
            raise running.fail(problem)


def measure(systems: list[System], plan: Plan) -> dict[str, Results]:
    """Run all systems in each round, each alone on the machine: start, check, warm up, load, and stop."""
    expected: dict[Path, Expected] = {}
    results = {system.name: Results() for system in systems}
    for number in range(plan.rounds):
        for system in systems:
            bundle = plan.bundles(system)
            if bundle not in expected:
                expected[bundle] = expectation(bundle, plan.pictures)
            turn = _loop if system.is_loop else _serve
            turn(system, plan, bundle, expected[bundle], results[system.name])
            _tell(number, system, results[system.name])
    return results


def _serve(system: System, plan: Plan, bundle: Path, expected: Expected, results: Results) -> None:
    first = next(iter(plan.pictures.values()))[0].read_bytes()
    with serving(system, plan.environments[system.environment], bundle, first) as running:
        check_answers(running, expected, plan.compared(system, expected))
        for size, files in plan.pictures.items():
            load.send(running.port, PATH, files, plan.warm_up)
            done = load.send(running.port, PATH, files, plan.seconds[size])
            results.loads.setdefault(size, []).append(done)
            results.megabytes.setdefault(size, []).append(running.megabytes())
        results.ready_seconds.append(running.ready_seconds)


def _loop(system: System, plan: Plan, bundle: Path, expected: Expected, results: Results) -> None:
    environment, compared = plan.environments[system.environment], plan.compared(system, expected)
    for size, files in plan.pictures.items():
        done, answers = run_loop(system, environment, bundle, files, plan.warm_up, plan.seconds[size])
        for file, answer in zip(files, answers, strict=True):
            if file in compared and (problem := difference(file, answer, compared[file])):
                raise SystemExit(f"{system.name}: {problem}")
        results.loads.setdefault(size, []).append(done)


def _tell(number: int, system: System, results: Results) -> None:
    parts = [
        f"{size} {each[-1].requests_per_s:.1f}/s, p50 {each[-1].p50_ms:.1f}, p99 {each[-1].p99_ms:.1f} ms"
        + (f", {each[-1].errors} errors, {each[-1].refused} refused" if each[-1].errors or each[-1].refused else "")
        for size, each in results.loads.items()
    ]
    print(f"round {number + 1}: {system.name}: {'; '.join(parts)}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Soak:
    """Result of a sustained load. Memory is PSS in MB, sampled during the load; ``growth`` is its change after warm-up."""

    system: str
    seconds: float
    requests: int
    errors: int
    refused: int
    samples: list[float]

    @property
    def growth(self) -> float:
        return self.samples[-1] / self.samples[0] - 1

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "growth": self.growth}


def soak(system: System, plan: Plan, seconds: int) -> Soak:
    """Load a server in ten parts, with small and, in every fifth, large pictures; its memory is read after each."""
    bundle = plan.bundles(system)
    first = next(iter(plan.pictures.values()))[0].read_bytes()
    part = max(1, round(seconds / 10))
    with serving(system, plan.environments[system.environment], bundle, first) as running:
        expected = expectation(bundle, plan.pictures)
        check_answers(running, expected, plan.compared(system, expected))
        for files in plan.pictures.values():
            load.send(running.port, PATH, files, max(plan.warm_up, min(part, 30)))
        begun, samples = time.monotonic(), [running.megabytes()]
        loads: list[Load] = []
        while time.monotonic() - begun < seconds:
            files = list(plan.pictures.values())[-1 if len(loads) % 5 == 4 else 0]
            loads.append(load.send(running.port, PATH, files, part))
            samples.append(running.megabytes())
        spent = time.monotonic() - begun
        if running.process.poll() is not None:
            raise running.fail("ended under the load")
    return Soak(
        system.name, round(spent, 1), sum(each.requests for each in loads),
        sum(each.errors for each in loads), sum(each.refused for each in loads), [round(value, 1) for value in samples],
    )  # fmt: skip
