"""Measure the speed and memory of `mlops data check`: 20,000 photos against a bare loop that decodes each once.

python -m benchmarks.checks [--images 20000] [--folder DIR] [--write] [--flipped]

The photos, 500 x 375 JPEGs, are made from the textile images: two of them, cut at random, mixed and tinted, with noise. They
are kept in --folder where it is given. --flipped measures precision and recall of the label check on textile instead, with
5% of the labels flipped, with the pretrained backbone or, with --bundle, with the features of a bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from vision_mlops.data.sources import bundled_folder

SIZE = (500, 375)
RESULTS = Path(__file__).parents[1] / "docs/benchmarks/data_checks.md"


def make_photos(folder: Path, count: int) -> None:
    """Write ``count`` different photos in ten classes; keep existing ones."""
    files = sorted(bundled_folder().rglob("*.jpg"))[::20]
    bases = [np.asarray(Image.open(file).convert("RGB").resize((760, 570)), np.float32) for file in files]
    noise = np.random.default_rng(0).normal(0, 5, (800, 1100, 1)).astype(np.float32)

    def write(number: int) -> None:
        path = folder / f"class {number % 10}" / f"{number:05d}.jpg"
        if path.exists():
            return
        generator = np.random.default_rng(number)
        mixed = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
        for _ in range(2):
            x, y = generator.integers(0, 760 - SIZE[0]), generator.integers(0, 570 - SIZE[1])
            mixed += bases[generator.integers(len(bases))][y : y + SIZE[1], x : x + SIZE[0]] / 2
        x, y = generator.integers(0, 600), generator.integers(0, 425)
        mixed *= generator.uniform(0.7, 1.25, 3).astype(np.float32)
        mixed += noise[y : y + SIZE[1], x : x + SIZE[0]]
        Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).save(path, quality=88)

    for label in range(10):
        (folder / f"class {label}").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))


def decode_all(folder: Path) -> None:
    """Run the bare loop: read and decode every file, on all processors, and keep nothing."""

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode, sorted(folder.rglob("*.jpg"))):
            pass


def measured(words: list[str], home: Path) -> tuple[float, float, float]:
    """Run a command; return seconds, processor seconds, and peak resident memory in MB, including its children."""
    start = time.perf_counter()
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "MLOPS_HOME": str(home)}
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(said)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def subset(folder: Path, target: Path, count: int) -> Path:
    """Return a folder with links to the first ``count`` photos."""
    for number in range(count):
        path = folder / f"class {number % 10}" / f"{number:05d}.jpg"
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        (target / path.parent.name / path.name).symlink_to(path)
    return target


def speed(folder: Path, count: int, work: Path) -> list[str]:
    """Measure and return the rows of the table; each check is compared with a bare loop of the same minute."""
    # In a separate process: Linux includes the initial memory of the parent in the peak of its children.
    subprocess.run(
        [sys.executable, "-m", "benchmarks.checks", "--make", str(folder), "--images", str(count)], check=True
    )
    small = subset(folder, work / "small", count // 10)
    check = [sys.executable, "-m", "vision_mlops", "data", "check"]
    bare = [sys.executable, "-m", "benchmarks.checks", "--decode"]
    last = ["--fail-on", "never", "--out", str(work / "out")]
    measured([*check, str(small), *last], work)  # converts the backbone, once on a machine
    rows = []
    for images, place in ((count // 10, small), (count, folder)):
        loop = measured([*bare, str(place)], work)
        runs = {
            "decode everything once": loop,
            "`mlops data check --no-labels`": measured([*check, str(place), "--no-labels", *last], work),
            "`mlops data check`": measured([*check, str(place), *last], work),
            "decode everything once, again": measured([*bare, str(place)], work),
        }
        rows += [_row(name, images, taken, loop) for name, taken in runs.items()]
    return rows


def _row(name: str, images: int, taken: tuple[float, float, float], loop: tuple[float, float, float]) -> str:
    seconds, processor, memory = taken
    row = f"| {name} | {images:,} | {seconds:.1f} | {images / seconds:.0f} | {seconds / loop[0]:.2f} | {processor:.1f} |" \
          f" {processor / loop[1]:.2f} | {memory:.0f} |"  # fmt: skip
    print(row, flush=True)
    return row


def flipped(work: Path, seeds: list[int], more: list[str]) -> list[str]:
    """Return precision and recall of the label check with 5% of the textile labels flipped."""
    files = sorted(bundled_folder().rglob("*.jpg"))
    labels = sorted({file.parent.name for file in files})
    rows = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        wrong = set(generator.choice(len(files), len(files) // 20, replace=False).tolist())
        folder = work / f"flipped-{seed}"
        names = set()
        for number, file in enumerate(files):
            label, name = file.parent.name, f"{number:04d}.jpg"  # file names overlap between classes
            if number in wrong:
                label = str(generator.choice([other for other in labels if other != label]))
                names.add(f"{label}/{name}")
            (folder / label).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / label / name)
        words = [
            sys.executable,
            "-m",
            "vision_mlops",
            "data",
            "check",
            str(folder),
            "-w",
            "textile",
            "--fail-on",
            "never",
        ]
        out = work / f"out-{seed}"
        measured([*words, "--out", str(out), *more], work)
        found = json.loads((out / "report.json").read_text(encoding="utf-8"))
        ranked = [item["files"][0]["path"] for item in found["findings"] if item["kind"] == "label-error"]
        sure = [
            item["files"][0]["path"]
            for item in found["findings"]
            if item["kind"] == "label-error" and item["severity"] == "warning"
        ]
        sizes = {"warnings": sure, "first 50": ranked[:50], "first 100": ranked[:100], "all": ranked}
        for part, some in sizes.items():
            right = len(names & set(some))
            row = f"| {seed} | {part} | {len(some)} | {right / max(1, len(some)):.2f} | {right / len(names):.2f} |"
            print(row, f"accuracy {found['labels']['accuracy']}", flush=True)
            rows.append(row)
    return rows


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/data_checks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--flipped", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.decode:
        decode_all(given.decode)
        return
    if given.make:
        make_photos(given.make, given.images)
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if given.flipped:
            more = ["--bundle", str(given.bundle)] if given.bundle else []
            rows = flipped(work, list(range(given.seeds)), more)
        else:
            rows = speed((given.folder or work / "photos").absolute(), given.images, work)
    if given.write:
        heading = "## Label errors" if given.flipped else "## Speed and memory"
        text = RESULTS.read_text(encoding="utf-8")
        before, after = text.split(heading, 1)
        table, rest = after.split("\n\n", 2)[1], after.split("\n\n", 2)[2]
        head = "\n".join(table.splitlines()[:2])
        RESULTS.write_text(f"{before}{heading}\n\n{head}\n" + "\n".join(rows) + f"\n\n{rest}", encoding="utf-8")


if __name__ == "__main__":
    main()
