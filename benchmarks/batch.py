"""Measure `mlops batch score` against a plain loop over the predictor, and PyTorch over a DataLoader, in one run.

    python -m benchmarks.batch [--bundle DIR] [--rounds 3] [--write]

All score the textile images, 2,000 JPEGs, with one bundle. The arms take turns, so that a busy machine slows all of them;
the best of each counts. Processor seconds hardly depend on what else the machine does. PyTorch gets the bundle's weights and
a DataLoader with a process per core; ``--share 10`` gives it a tenth of the images, and its start then weighs more. Seconds
are those of the whole process, its start included; memory is the largest of its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vision_mlops.core.files import atomic_write
from vision_mlops.data.sources import bundled_folder

DOC = Path(__file__).parents[1] / "docs/benchmarks/batch.md"
MARK = "<!-- what follows is written by the benchmark -->"
LIMIT_SECONDS = 10.0


def files_of(folder: Path) -> list[Path]:
    """The images."""
    return sorted(folder.rglob("*.jpg"))


def plain(bundle: Path, folder: Path) -> int:
    """Score one image after another, in the precision that the command also uses."""
    from vision_mlops.model.predictor import load_predictor

    predictor = load_predictor(bundle, precision="auto")
    return sum(len(predictor.score([predictor.pixels(file)]).probabilities) for file in files_of(folder))


def eager(bundle: Path, folder: Path, share: int) -> int:
    """Run PyTorch in eager mode over a DataLoader, on the first of every ``share`` images."""
    import torch
    from safetensors.torch import load_file
    from torch.utils.data import DataLoader, Dataset

    from vision_mlops.config.workload import Model as ModelConfig
    from vision_mlops.images.decoding import load_pixels
    from vision_mlops.model.bundle import WEIGHTS, read_bundle
    from vision_mlops.model.network import Classifier

    described = read_bundle(bundle)
    spec = described.preprocessing
    config = ModelConfig.model_validate(
        {**described.workload.get("model", {}), "backbone": described.backbone}  # type: ignore[dict-item]
    )
    network = Classifier(config, len(described.classes), load_weights=False)
    network.load_state_dict(load_file(bundle / WEIGHTS))
    network.eval()
    files = files_of(folder)[::share]

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> Any:
            return torch.from_numpy(
                load_pixels(files[index], spec.image_size, spec.resize, version=spec.pixels_version).copy()
            )

    done = 0
    with torch.inference_mode():
        for batch in DataLoader(Images(), batch_size=32, num_workers=os.cpu_count() or 1):
            done += len((network(batch) / described.temperature).softmax(1))
    return done


def measure(words: list[str]) -> tuple[float, float, float]:
    """Return seconds, processor seconds, and peak memory in MB of a command, which runs below a separate process."""
    code = (
        "import json, resource, subprocess, sys, time\n"
        "begun = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    seconds, used, memory = json.loads(done.stdout)
    return seconds, used, memory


def arms(bundle: Path, folder: Path, out: Path, share: int, count: int) -> dict[str, tuple[list[str], int]]:
    """Return commands, and how many images each scores."""
    here = [sys.executable, "-m", "benchmarks.batch", "--bundle", str(bundle), "--folder", str(folder)]
    ours = [sys.executable, "-m", "vision_mlops", "batch", "score", str(folder), "--bundle", str(bundle), "--overwrite"]
    found = {
        f"ours, --batch-size {size}": ([*ours, "--out", str(out / f"{size}.csv"), "--batch-size", str(size)], count)
        for size in (1, 4, 8, 32)
    }
    one = ([*ours, "--out", str(out / "one.csv"), "--workers", "1"], count)
    return {
        "PyTorch eager, DataLoader": ([*here, "--arm", "eager", "--share", str(share)], -(-count // share)),
        "plain loop, one image at a time": ([*here, "--arm", "plain"], count),
        "ours, --workers 1": one,
        **found,
    }


def main() -> None:
    """Run all arms and print, or write, a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, default=Path("outputs/bundles/textile"))
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("--arm", choices=("plain", "eager"))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder = options.folder or bundled_folder()
    if options.arm == "plain":
        plain(options.bundle, folder)
        return
    if options.arm == "eager":
        eager(options.bundle, folder, options.share)
        return
    count = len(files_of(folder))
    best: dict[str, tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        chosen = arms(options.bundle, folder, Path(scratch), options.share, count)
        for _ in range(options.rounds):
            for name, (words, _number) in chosen.items():
                best[name] = min(best.get(name, (float("inf"), 0.0, 0.0)), measure(words))
                print(f"{name}: {best[name][0]:.1f} s", file=sys.stderr)
    text = table(best, {name: number for name, (_, number) in chosen.items()}, count, options.rounds)
    if options.write:
        head = DOC.read_text(encoding="utf-8").partition(MARK)[0] if DOC.exists() else "# Batch scoring\n\n"
        atomic_write(DOC, f"{head}{MARK}\n\n{text}")
    print(text)


def table(best: dict[str, tuple[float, float, float]], numbers: dict[str, int], count: int, rounds: int) -> str:
    """Return the results as Markdown."""
    rates = {name: numbers[name] / seconds for name, (seconds, *_) in best.items()}
    first = rates["PyTorch eager, DataLoader"]
    lines = [
        f"{count} images, {os.cpu_count()} cores, the best of {rounds} interleaved rounds.",
        "",
        "| arm | images | s | images/s | times PyTorch | processor, ms an image | peak memory of a process, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, (seconds, used, memory) in best.items():
        lines.append(
            f"| {name} | {numbers[name]} | {seconds:.1f} | {rates[name]:.0f} | {rates[name] / first:.1f} |"
            f" {used / numbers[name] * 1000:.1f} | {memory:.0f} |"
        )
    reached = min(seconds for name, (seconds, *_) in best.items() if name == "ours, --batch-size 4")
    lines += ["", f"Wanted: all {count} images in at most {LIMIT_SECONDS:g} s; it took {reached:.1f} s.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
