"""Tables from the rounds: medians, ratios within rounds, and goals next to what was reached."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import load
from benchmarks.serving.environments import OURS, Environment, pins
from benchmarks.serving.load import Load
from benchmarks.serving.measure import LARGE, SMALL, Results, Soak
from benchmarks.serving.systems import BASE, BOUND, System

_TITLES = {SMALL: "JPEGs of 250 x 250", LARGE: "JPEGs of 4032 x 3024"}
_FLAGS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")


@dataclass(frozen=True)
class Ask:
    """A goal; ``got`` is None if it was not measured."""

    what: str
    got: float | None
    wanted: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.got is None:
            return None
        return self.got >= self.wanted if self.at_least else self.got <= self.wanted

    def row(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        got = "not measured" if self.got is None else f"{self.got:.2f}" if abs(self.got) < 100 else f"{self.got:.0f}"
        return [self.what, f"{sign} {self.wanted:g}", got, {True: "yes", False: "no", None: ""}[self.met]]


def median(loads: list[Load], name: str) -> float:
    """Return the median over the rounds of one number of the loads."""
    return statistics.median(float(getattr(each, name)) for each in loads)


def ratio(results: dict[str, Results], size: str, above: str, below: str) -> float | None:
    """Return the median over the rounds of one system's requests/s divided by another's; None if not measured."""
    pair = [results[name].loads.get(size, []) if name in results else [] for name in (above, below)]
    found = [
        one.requests_per_s / other.requests_per_s for one, other in zip(*pair, strict=False) if other.requests_per_s
    ]
    return statistics.median(found) if found else None


def best_other(results: dict[str, Results], systems: Iterable[System], size: str) -> str | None:
    """Return the fastest of the other frameworks over OpenVINO."""
    names = [system.name for system in systems if system.is_other and results[system.name].loads.get(size)]
    return max(names, key=lambda name: median(results[name].loads[size], "requests_per_s"), default=None)


def markdown_table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def speed_table(results: dict[str, Results], systems: list[System], size: str) -> str:
    """Return one row per system: requests/s, its ratios, percentiles, and everything that went wrong."""
    best = best_other(results, systems, size)
    head = ["system", "requests/s", f"times {BASE}", "times the best other", f"of {BOUND}",
            "p50, ms", "p99, ms", "p99 / p50", "errors", "not 2xx"]  # fmt: skip
    rows = []
    for system in systems:
        loads = results[system.name].loads.get(size)
        if not loads:
            continue
        ratios = [ratio(results, size, system.name, other) for other in (BASE, best or "", bound(system))]
        rows.append([
            system.name, f"{median(loads, 'requests_per_s'):.1f}", *("" if r is None else f"{r:.2f}" for r in ratios),
            f"{median(loads, 'p50_ms'):.1f}", f"{median(loads, 'p99_ms'):.1f}", f"{median(loads, 'spread'):.2f}",
            str(sum(each.errors for each in loads)), str(sum(each.refused for each in loads)),
        ])  # fmt: skip
    return markdown_table(head, rows)


def bound(system: System) -> str:
    """Return the loop that a system is compared with: for our server and predictor, that of the same precision."""
    return BOUND + "".join(system.name.partition(",")[1:]) if system.is_ours else BOUND


def title(size: str, edge: int) -> str:
    """Return what was sent, and the edge in pixels of the network's input."""
    return f"{_TITLES[size]} to {edge}"


def memory_after(measured: Results, size: str) -> float | None:
    """Return the median of the memory after the loads of one size of image, in MB."""
    found = measured.megabytes.get(size)
    return statistics.median(found) if found else None


def cost_table(results: dict[str, Results], systems: list[System], environments: dict[str, Environment]) -> str:
    """Return start, memory of all processes, and installed size of each server."""
    rows = []
    for system in systems:
        measured = results[system.name]
        if not measured.ready_seconds:
            continue
        environment = environments[system.environment]
        sizes = (environment.megabytes_without_installers, environment.megabytes)
        memory = [memory_after(measured, size) for size in _TITLES]
        rows.append([
            system.name, f"{statistics.median(measured.ready_seconds):.2f}",
            *("" if number is None else f"{number:.0f}" for number in (*memory, *sizes)),
        ])  # fmt: skip
    head = ["system", "start to first answer, s", "PSS after small images, MB", "PSS after large ones, MB",
            "installed, MB", "with pip and setuptools, MB"]  # fmt: skip
    return markdown_table(head, rows)


def asked(
    results: dict[str, Results], systems: list[System], environments: dict[str, Environment], edge: int
) -> list[Ask]:
    """Return all goals of our server. ``edge`` is the network's input, in pixels."""
    asks: list[Ask] = []
    for size, base, other, of_bound, spread in ((SMALL, 6.3, 1.4, 0.95, 1.8), (LARGE, 6.0, None, 0.9, 2.2)):
        sent, best = title(size, edge), best_other(results, systems, size)
        asks.append(Ask(f"{sent}: times {BASE}", ratio(results, size, OURS, BASE), base))
        if other is not None:
            asks.append(Ask(f"{sent}: times {best or 'the best other'}", ratio(results, size, OURS, best or ""), other))
        asks.append(Ask(f"{sent}: of {BOUND}", ratio(results, size, OURS, BOUND), of_bound))
        loads = results[OURS].loads.get(size) if OURS in results else None
        asks.append(Ask(f"{sent}: p99 / p50", median(loads, "spread") if loads else None, spread, at_least=False))
    asks.append(
        Ask(f"int8 bundle, {title(SMALL, edge)}: times {BASE}", ratio(results, SMALL, f"{OURS}, int8", BASE), 7.5)
    )
    ours = results.get(OURS, Results())
    ready = statistics.median(ours.ready_seconds) if ours.ready_seconds else None
    size_mb = environments[OURS].megabytes_without_installers if OURS in environments else None
    return [
        *asks,
        Ask("start to first answer, s", ready, 3, at_least=False),
        *(
            Ask(f"memory (PSS) after {title(size, edge)}, MB", memory_after(ours, size), 350, at_least=False)
            for size in _TITLES
        ),
        Ask("installed by the serve extra, without pip and setuptools, MB", size_mb, 350, at_least=False),
    ]


def soak_table(done: Soak) -> str:
    """Return the sustained load as a table."""
    rows = [[done.system, f"{done.seconds:.0f}", f"{done.requests:,}", str(done.errors), str(done.refused),
             f"{done.samples[0]:.0f}", f"{done.samples[-1]:.0f}", f"{100 * done.growth:.1f}", "< 5"]]  # fmt: skip
    head = [
        "soak",
        "seconds",
        "requests",
        "errors",
        "not 2xx",
        "PSS after warm-up, MB",
        "PSS at the end, MB",
        "growth, %",
        "asked",
    ]
    return markdown_table(head, rows)


def machine() -> dict[str, str]:
    """Return a description of the machine."""
    cpu: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    flags = cpu.get("flags", "").split()
    return {
        "processor": cpu.get("model name", platform.machine()),
        "instructions": ", ".join(flag for flag in _FLAGS if flag in flags),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "wrk": load.wrk_version(),
    }


def versions(systems: list[System]) -> str:
    """Return the pins of each environment, as a list."""
    names = dict.fromkeys(system.environment for system in systems)
    return "\n".join(f"- `{name}`: {', '.join(pin.replace('==', ' ') for pin in pins(name))}" for name in names)


def document(
    results: dict[str, Results], systems: list[System], environments: dict[str, Environment], header: str, edge: int
) -> str:
    """Return the report in Markdown. ``edge`` is the network's input, in pixels."""
    parts = [header, ", ".join(f"{key} {value}" for key, value in machine().items()) + "."]
    for size in _TITLES:
        if any(results[system.name].loads.get(size) for system in systems):
            parts += [f"### {title(size, edge)}", speed_table(results, systems, size)]
    parts += ["### Start, memory, size", cost_table(results, systems, environments)]
    rows = [ask.row() for ask in asked(results, systems, environments, edge)]
    parts += ["### Asked and got", markdown_table(["of `ours`", "asked", "got", "met"], rows)]
    parts += ["### Versions", versions(systems)]
    return "\n\n".join(parts) + "\n"


def finite(value: object) -> object:
    """Return the same content with None instead of numbers that JSON does not support."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value
