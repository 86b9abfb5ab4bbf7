"""Compare the scoring server with what you would use instead, with the same network and the same images.

    python -m benchmarks.serving [--bundle BUNDLE] [--int8 BUNDLE] [--rounds 5] [--seconds 10] [--quick]
                                         [--only NAME ...] [--one-worker] [--unpinned]
                                         [--json FILE] [--markdown FILE] [--soak SECONDS]

Needs `wrk`. Each system has an environment of its own, made on the first run (about 4 GB). They take turns, each alone on
the machine; numbers are medians over the rounds, ratios are taken within a round. docs/benchmarks/serving.md says more.
Exit code 1: a server did not start, or answered something else than the predictor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.serving import environments, load, measure, pictures, report
from benchmarks.serving.measure import LARGE, SMALL, Plan
from benchmarks.serving.systems import System, systems

MARK = "<!-- what follows is written by the benchmark -->"
SOAK_MARK = "<!-- what follows is written by the benchmark with --soak -->"
END_MARK = "<!-- until here -->"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, help="model bundle; by default an untrained one is created")
    parser.add_argument("--int8", type=Path, help="also measure this int8 bundle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="seconds of load with the small images")
    parser.add_argument(
        "--large-seconds", type=int, help="seconds of load with the large ones; by default twice as many"
    )
    parser.add_argument("--warm-up", type=int, default=3, help="seconds of load before measuring")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="measure only these rows, or all rows of these environments",
    )
    parser.add_argument("--size", choices=[SMALL, LARGE], help="send only images of this size")
    parser.add_argument("--one-worker", action="store_true", help="also run the other frameworks with one worker")
    parser.add_argument(
        "--unpinned", action="store_true", help="also run the other frameworks without OpenVINO's pinning"
    )
    parser.add_argument(
        "--quick", action="store_true", help="run one round of one second, to check that everything works"
    )
    parser.add_argument(
        "--soak", type=int, default=0, metavar="SECONDS", help="run a sustained load of our server instead"
    )
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, after its mark if it has one")
    given = parser.parse_args(words)
    if given.quick:
        given.rounds = given.seconds = given.warm_up = 1
    if given.large_seconds is None:
        given.large_seconds = 2 * given.seconds
    for name in ("rounds", "seconds", "large_seconds", "warm_up"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    for bundle in (given.bundle, given.int8):
        if bundle is not None and not (bundle / "bundle.json").is_file():
            parser.error(f"{bundle} is not a model bundle: it has no bundle.json")
    return given


def chosen(given: argparse.Namespace) -> list[System]:
    """Return the systems that the options select. Raises SystemExit for an unknown name."""
    known = systems(int8=given.int8 is not None, one_worker=given.one_worker, unpinned=given.unpinned)
    names = {name for system in known for name in (system.name, system.environment)}
    if unknown := [name for name in given.only if name not in names]:
        raise SystemExit(f"--only {unknown[0]}: there is no such system; there are {', '.join(sorted(names))}")
    wanted = set(given.only) or names
    return [system for system in known if wanted & {system.name, system.environment}]


def untrained() -> Path:
    """Return the benchmark's own bundle, created again when the code that creates it has changed."""
    folder = environments.cache() / "untrained"
    source = Path(__file__).with_name("untrained.py")
    if not (folder / "bundle.json").is_file() or (folder / "bundle.json").stat().st_mtime < source.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "benchmarks.serving.untrained", str(folder)], check=True)
    return folder


def make_plan(given: argparse.Namespace, rows: list[System]) -> Plan:
    """Find or create everything that a run needs."""
    bundle = (given.bundle or untrained()).resolve()
    int8 = given.int8.resolve() if given.int8 else bundle
    ready = {name: environments.prepare(name) for name in dict.fromkeys(system.environment for system in rows)}
    sent = {SMALL: pictures.small(), LARGE: pictures.large()}
    return Plan(
        pictures={size: files for size, files in sent.items() if given.size in (None, size)},
        bundles=lambda system: int8 if system.int8 else bundle,
        environments=ready,
        rounds=given.rounds,
        seconds={SMALL: given.seconds, LARGE: given.large_seconds},
        warm_up=given.warm_up,
        edge=json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["preprocessing"]["image_size"],
    )


def write_markdown(file: Path, text: str, mark: str = MARK) -> None:
    """Write the tables between their mark and the next end mark; a file without marks, or a new one, gets only them."""
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    if mark in before:
        head, _, rest = before.partition(mark)
        _, end, tail = rest.partition(END_MARK)
        text = f"{head}{mark}\n\n{text}" + (f"\n{end}{tail}" if end else "")
    file.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure, and print or write."""
    given = arguments()
    load.check_wrk()
    rows = chosen(given)
    plan = make_plan(given, rows)
    content: dict[str, object] = {"machine": report.machine(), "options": {k: str(v) for k, v in vars(given).items()}}
    if given.soak:
        servers = [system for system in rows if not system.is_loop and (given.only or system.name == environments.OURS)]
        done = [measure.soak(system, plan, given.soak) for system in servers]
        text = "\n\n".join(report.soak_table(each) for each in done) + "\n"
        content["soak"] = [each.to_dict() for each in done]
    else:
        results = measure.measure(rows, plan)
        name = given.bundle.resolve().name if given.bundle else "untrained"
        header = f"Bundle: {name}. {given.rounds} rounds of {given.seconds} s ({given.large_seconds} s with"
        header += f" the large images), after {given.warm_up} s of warm-up."
        text = report.document(results, rows, plan.environments, header, plan.edge)
        asks = report.asked(results, rows, plan.environments, plan.edge)
        content["systems"] = {system: found.to_dict() for system, found in results.items()}
        content["asked"] = [{**ask.__dict__, "met": ask.met} for ask in asks]
        content["environments"] = {
            name: {
                "megabytes": each.megabytes_without_installers,
                "megabytes_with_installers": each.megabytes,
                "requirements": environments.pins(name),
            }
            for name, each in plan.environments.items()
        }
    if given.json:
        given.json.write_text(json.dumps(report.finite(content), indent=2) + "\n", encoding="utf-8")
    if given.markdown:
        write_markdown(given.markdown, text, SOAK_MARK if given.soak else MARK)
    print(text)


if __name__ == "__main__":
    main()
