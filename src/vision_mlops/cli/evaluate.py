"""``mlops evaluate``: how good a bundle is."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle
from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import emit_json, emit_table, say


class SplitName(enum.StrEnum):
    """Splits of prepared data."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def evaluate(
    bundle: Annotated[str, typer.Option("--bundle", help=BUNDLE_HELP)],
    data: Annotated[Path, typer.Option("--data", help="Prepared data.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")],
    split: Annotated[SplitName, typer.Option("--split", help="Split to evaluate on.")] = SplitName.TEST,
    json_: JsonOption = False,
) -> None:
    """Measure a bundle on the test images and write a report.

    Example: `mlops evaluate --bundle textile@champion --data outputs/data/textile --out outputs/reports/champion`
    """
    from vision_mlops.evaluation.evaluate import evaluate as run
    from vision_mlops.evaluation.evaluate import headline

    evaluation = run(choose_bundle(bundle).folder, data, out, split=split.value)
    metrics = evaluation.metrics
    if metrics["run_id"]:
        from vision_mlops.tracking import mlflow_runs

        if not mlflow_runs.log_evaluation(metrics["run_id"], headline(metrics), evaluation.folder):
            say(f"note: the run {metrics['run_id']} is not in this tracking store; the report is on disk only")
    if json_:
        emit_json(metrics)
        return
    low, high = metrics["accuracy_interval"]
    keys = ("precision", "recall", "f1")
    rows = [
        {"class": name, **{key: f"{row[key]:.4f}" for key in keys}, "images": row["support"]}
        for name, row in metrics["per_class"].items()
    ]
    emit_table(rows, as_json=False)
    say(
        f"accuracy {metrics['accuracy']:.4f} (95% {low:.4f} to {high:.4f}), macro F1 {metrics['macro_f1']:.4f},"
        f" calibration error {metrics['expected_calibration_error']:.4f},"
        f" {metrics['latency_ms']['median']:.1f} ms per image"
    )
    say(f"report: {evaluation.folder / 'report.html'}")
