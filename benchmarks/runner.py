"""Measure the overhead of the local engine: `mlops job run` against the same commands in one bash.

    python -m benchmarks.runner [--steps 20] [--rounds 3] [--jobs 1]

Chained steps hand a file on, independent ones run `true`. The arms take turns, so that a busy machine slows all of them; the
numbers are medians. `begin` is the time of a job without work to do: the start of Python, and with MLflow its import.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from testing.support.jobs import SCHEMA, WITHOUT_MLFLOW, command, pipeline

LIMIT_SECONDS = 0.3
WITH_MLFLOW = "from vision_mlops.cli.main import main; main()"


def chained(steps: int) -> tuple[dict[str, object], str]:
    """Return a pipeline of steps that pass on a file, and the same in bash."""
    jobs = {}
    for number in range(steps):
        inputs = {"before": f"${{{{parent.jobs.s{number - 1}.outputs.out}}}}"} if number else {}
        text = "cp ${{inputs.before}} ${{outputs.out}}" if number else "echo x > ${{outputs.out}}"
        jobs[f"s{number}"] = command(text, {"out": "uri_file"}, **({"inputs": inputs} if inputs else {}))
    bash = "\n".join(["echo x > s0", *(f"bash -c 'cp s{number - 1} s{number}'" for number in range(1, steps))])
    return pipeline(jobs), bash


def independent(steps: int) -> tuple[dict[str, object], str]:
    """Return a pipeline of steps that do nothing, and the same in bash. Each has its own variable: no two are equal."""
    jobs = {f"s{number}": command("true", environment_variables={"N": number}) for number in range(steps)}
    return pipeline(jobs), "\n".join(f"N={number} bash -c true" for number in range(steps))


def run(folder: Path, launcher: str, places: int, *more: str) -> float:
    """Run a job; return the seconds of the whole command."""
    words = [
        sys.executable,
        "-c",
        launcher,
        "job",
        "run",
        str(folder / "job.yml"),
        "--jobs",
        str(places),
        "--json",
        *more,
    ]
    environment = {**os.environ, "MLOPS_HOME": str(folder / "home")}
    begun = time.perf_counter()
    subprocess.run(words, env=environment, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def bash(folder: Path, script: str) -> float:
    """Run the same in bash; return seconds."""
    (folder / "bash").mkdir(exist_ok=True)
    begun = time.perf_counter()
    subprocess.run(["bash", "-c", script], cwd=folder / "bash", check=True)
    return time.perf_counter() - begun


def main() -> int:
    """Measure and print a table; exit with code 1 if a step costs more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.steps} steps, {given.jobs} at once, medians of {given.rounds} rounds; seconds\n")
    print(f"{'steps':12} {'MLflow':7} {'bash':>7} {'begin':>7} {'job':>7} {'reused':>7} {'a step':>7}")
    worst = 0.0
    for kind, make in (("chained", chained), ("independent", independent)):
        content, script = make(given.steps)
        for label, launcher in (("without", WITHOUT_MLFLOW), ("with", WITH_MLFLOW)):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                empty = {"$schema": f"{SCHEMA}/commandJob.schema.json", **command("true")}
                for file, what in (("job.yml", content), ("empty/job.yml", empty)):
                    (folder / file).parent.mkdir(exist_ok=True)
                    (folder / file).write_text(yaml.safe_dump(what), encoding="utf-8")
                run(folder, launcher, 1)  # creates the tracking store, which takes seconds once
                shutil.copytree(folder / "home", folder / "empty" / "home")
                rows: dict[str, list[float]] = {"bash": [], "begin": [], "job": [], "reused": []}
                for _ in range(given.rounds):
                    rows["bash"].append(bash(folder, script))
                    rows["begin"].append(run(folder / "empty", launcher, 1, "--force"))
                    rows["job"].append(run(folder, launcher, given.jobs, "--force"))
                    rows["reused"].append(run(folder, launcher, given.jobs))
                found = {key: statistics.median(values) for key, values in rows.items()}
                each = (found["job"] - found["bash"]) / given.steps
                worst = max(worst, each)
                numbers = " ".join(f"{found[key]:7.2f}" for key in rows)
                print(f"{kind:12} {label:7} {numbers} {each:7.3f}", flush=True)
    print(f"\na step costs at most {worst:.3f} s; allowed are {LIMIT_SECONDS} s")
    return int(worst > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
