"""Measure the overhead of the pipeline: `mlops run` against the bare commands in a row, each in a fresh home.

python benchmarks/pipeline.py [--workload textile] [--set training.epochs=1] [--rounds 1]

The two take turns, so that a busy machine slows both. Then the pipeline runs again unchanged, and with another threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def mlops(words: list[str], home: Path) -> str:
    """Run one command with a separate home; return its standard output."""
    environment = {**os.environ, "MLOPS_HOME": str(home)}
    command = [sys.executable, "-m", "vision_mlops", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")
    return done.stdout


def bare(home: Path, common: list[str]) -> float:
    """Run the steps of the pipeline one after another; return seconds."""
    start = time.perf_counter()
    data, bundle, report = home / "data", home / "bundle", home / "report"
    verdict = report / "verdict.json"
    mlops(["data", "prepare", *common, "--out", f"{data}"], home)
    mlops(["train", "--data", f"{data}", "--out", f"{bundle}", *common], home)
    mlops(["evaluate", "--bundle", f"{bundle}", "--data", f"{data}", "--out", f"{report}"], home)
    mlops(["gate", "--candidate", f"{report}", "--against", "bench", "--data", f"{data}", *common], home)
    registered = ["--name", "bench", "--metrics", f"{report}", "--verdict", f"{verdict}", "--promote-if-passed"]
    mlops(["models", "register", "--bundle", f"{bundle}", "--data", f"{data}", *registered], home)
    return time.perf_counter() - start


def pipeline(home: Path, common: list[str], *more: str) -> tuple[float, dict[str, str]]:
    """Run the pipeline; return seconds, and how each step ended."""
    start = time.perf_counter()
    state = json.loads(mlops(["run", *common, *more, "--json"], home))
    return time.perf_counter() - start, {name: step["status"] for name, step in state["steps"].items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="textile")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    common = ["--workload", given.workload, *(part for item in given.changes for part in ("--set", item))]
    plain, piped, again, gated = [], [], [], []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for turn in (0, 1) if number % 2 == 0 else (1, 0):
                if turn == 0:
                    plain.append(bare(Path(one), common))
                else:
                    piped.append(pipeline(Path(other), common)[0])
            seconds, states = pipeline(Path(other), common)
            assert set(states.values()) == {"Reused"}, states
            again.append(seconds)
            seconds, states = pipeline(Path(other), common, "--set", "gate.max_latency_ms=199")
            assert [name for name, state in states.items() if state != "Reused"] == ["gate_and_register"], states
            gated.append(seconds)
    rows = (("bare commands", plain), ("mlops run", piped), ("unchanged", again), ("another threshold", gated))
    for label, values in rows:
        print(f"{label:20} {statistics.median(values):7.1f} s")
    difference = statistics.median(piped) - statistics.median(plain)
    print(f"{'difference':20} {difference:7.1f} s  ({statistics.median(piped) / statistics.median(plain):.3f} times)")


if __name__ == "__main__":
    main()
