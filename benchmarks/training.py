"""Compare training speed: `mlops train` against the plain PyTorch loop that a template usually ships.

    make bench            # or: .venv/bin/python benchmarks/training.py --rounds 2 --variants

Every arm trains the textile workload in a process of its own, in turns: same network, same frozen stages, same optimiser,
schedule, loss and number of epochs. The plain loop is ImageFolder, PIL transforms in worker processes, fp32 and NCHW.
``--variants`` adds our loop with one measure taken away at a time. Writes docs/benchmarks/training.md with ``--write``.
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
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "benchmarks" / "training.md"
TARGET = 0.97
VARIANTS = {
    "ours": [],
    "ours, prefix not cached": ["training.cache_prefix=false"],
    "ours, bf16": ["training.precision=bf16"],
    "ours, memory given back": ["malloc=default"],
}

NOTES = """\
## What did not help

These were tried by hand on the same processor, at 32 images a batch, and left out:

- bf16 without AMX: depthwise convolutions and batch norm lose more than the matrix products gain.
  Therefore `precision: auto` requires AMX.
- The asymmetric "same" padding of the stride-2 convolutions written as symmetric padding and a crop: 40 images/s with both.
- Two processes with one thread each instead of one process with two: 46 images/s together against 45.
- Depthwise convolutions in NCHW: two to three times as slow as channels last.
- Batches of 16 or 64 instead of 32, and transparent huge pages on top of keeping freed memory: no difference.

What remains: the weight gradient of 5 x 5 depthwise convolutions takes a sixth of a step; the fast kernel only
supports widths up to 3.
""".splitlines()


def main() -> None:
    """Run the arms in turns and print the table, or run one arm in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="run each arm this often")
    parser.add_argument("--variants", action="store_true", help="also run ours without one optimisation at a time")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.relative_to(ROOT)}")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        data = Path(os.environ["BENCHMARK_DATA"])
        result = plain(data) if arguments.arm == "plain" else ours(data, VARIANTS[arguments.arm])
        print(json.dumps(result))
        return
    arms = ["plain", *(VARIANTS if arguments.variants else ["ours"])]
    with tempfile.TemporaryDirectory() as home:
        results = run_arms(arms, arguments.rounds, Path(home))
    text = table(results)
    print(text)
    if arguments.write:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(page(text), encoding="utf-8")


def run_arms(arms: list[str], rounds: int, home: Path) -> dict[str, list[dict[str, Any]]]:
    """Prepare the data once, then run every arm ``rounds`` times, interleaved."""
    environment = {**os.environ, "MLOPS_HOME": str(home), "BENCHMARK_DATA": str(home / "data" / "textile")}
    mlops = [sys.executable, "-m", "vision_mlops"]
    subprocess.run([*mlops, "data", "prepare"], check=True, env=environment, stdout=subprocess.DEVNULL)
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for number in range(rounds):
        for arm in arms:
            done = subprocess.run(
                [sys.executable, __file__, "--arm", arm], check=True, env=environment, stdout=subprocess.PIPE, text=True
            )
            results[arm].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}, {arm}: {json.dumps(results[arm][-1])}", file=sys.stderr)
    return results


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return Markdown: medians over the rounds, and ratios to the plain loop."""

    def median(arm: str, key: str) -> float:
        values = [run[key] for run in results[arm] if run[key] is not None]
        return statistics.median(values) if values else float("nan")

    lines = [
        "| loop | images/s | ratio | all epochs, s | s to 0.97 | ratio | best validation accuracy |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    base, reach = median("plain", "images_per_second"), median("plain", "seconds_to_target")
    for arm in results:
        speed, seconds = median(arm, "images_per_second"), median(arm, "seconds_to_target")
        lines.append(
            f"| {arm} | {speed:.1f} | {speed / base:.2f} | {median(arm, 'seconds'):.0f} | {seconds:.0f}"
            f" | {reach / seconds:.2f} | {median(arm, 'best'):.4f} |"
        )
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the report: the table, the machine, and the meaning of the columns."""
    import torch

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    flags = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f") if flag in Path("/proc/cpuinfo").read_text()]
    return "\n".join([
        "# Training speed",
        "",
        "Written by `benchmarks/training.py --variants --write`, on"
        f" {os.cpu_count()} cores ({models[0].partition(': ')[2]}; {', '.join(flags)}), torch {torch.__version__}.",
        "",
        text,
        "",
        "*images/s* counts the training steps of all epochs after the first, *all epochs* everything from the first",
        "image that is read to the end of the last epoch, validation and filling the prefix cache included.",
        "",
        *NOTES,
        "",
    ])  # fmt: skip


def summary(
    starts: list[float], ends: list[float], accuracies: list[float], begun: float, images: int
) -> dict[str, Any]:
    """Return the result of an arm from its epochs' start and end (s), validation accuracies, and its own start."""
    reached = [end for end, accuracy in zip(ends, accuracies, strict=True) if accuracy >= TARGET]
    speeds = [images / seconds for seconds in starts[1:]] or [images / starts[0]]
    return {
        "images_per_second": statistics.median(speeds),
        "seconds": ends[-1] - begun,
        "seconds_to_target": reached[0] - begun if reached else None,
        "best": max(accuracies),
    }


def ours(data: Path, overrides: list[str]) -> dict[str, Any]:
    """Run `mlops train`'s own function, timed by a Lightning callback."""
    from vision_mlops.config import load_workload
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.training import training_runtime  # declares the operators that Lightning's torchvision needs
    from vision_mlops.training.fit import fit

    import pytorch_lightning as pl  # isort: skip

    class Clock(pl.Callback):
        """Seconds of each epoch's training steps, and when its validation had ended."""

        def __init__(self) -> None:
            self.steps: list[float] = []
            self.ends: list[float] = []
            self.accuracies: list[float] = []

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self._start = time.perf_counter()

        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.steps.append(time.perf_counter() - self._start)

        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.ends.append(time.perf_counter())
            self.accuracies.append(float(trainer.callback_metrics["val_accuracy"]))

    clock = Clock()
    if "malloc=default" in overrides:
        training_runtime.keep_freed_memory = lambda: False
    workload = load_workload("textile", [item for item in overrides if not item.startswith("malloc")])
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(workload, data, Path(folder, "bundle"), progress=False, callbacks=[clock])
    images = len(read_manifest(data).of_split("train"))
    return summary(clock.steps, clock.ends, clock.accuracies, begun, images)


def plain(data: Path) -> dict[str, Any]:
    """Run what a template usually ships: ImageFolder, PIL transforms, worker processes, fp32, NCHW, a loop."""
    import torch
    from torch.utils.data import DataLoader

    from vision_mlops.config import load_workload
    from vision_mlops.model.network import Classifier  # declares the operators that torchvision needs

    from torchvision import transforms  # isort: skip
    from torchvision.datasets import ImageFolder  # isort: skip

    workload = load_workload("textile")
    config = workload.training
    torch.manual_seed(config.seed)
    begun = time.perf_counter()
    network = Classifier(workload.model, 3)
    size = (workload.model.image_size,) * 2
    norm = transforms.Normalize((network.mean / 255).flatten().tolist(), (network.std / 255).flatten().tolist())
    flips = [transforms.RandomHorizontalFlip()] if config.augment.horizontal_flip else []
    train = ImageFolder(
        str(data / "train"), transforms.Compose([transforms.Resize(size), *flips, transforms.ToTensor(), norm])
    )
    val = ImageFolder(str(data / "val"), transforms.Compose([transforms.Resize(size), transforms.ToTensor(), norm]))
    loader = DataLoader(train, config.batch_size, shuffle=True, num_workers=2)
    checks = DataLoader(val, config.batch_size, num_workers=2)

    def logits(images: Any) -> Any:
        return network.classify(network.backbone.forward_features(images))

    counts = torch.bincount(torch.tensor(train.targets)).float()
    loss_of = torch.nn.CrossEntropyLoss(len(train) / (3 * counts), label_smoothing=config.label_smoothing)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * len(loader), pct_start=config.warmup
    )
    steps: list[float] = []
    ends: list[float] = []
    accuracies: list[float] = []
    for _ in range(config.epochs):
        start = time.perf_counter()
        network.train()
        for images, labels in loader:
            loss = loss_of(logits(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        steps.append(time.perf_counter() - start)
        network.eval()
        with torch.no_grad():
            correct = sum(int((logits(images).argmax(1) == labels).sum()) for images, labels in checks)
        ends.append(time.perf_counter())
        accuracies.append(correct / len(val))
    return summary(steps, ends, accuracies, begun, len(train))


if __name__ == "__main__":
    main()
