"""``mlops evaluate``: measure how good a bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle
from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import count_bar, emit_json, emit_table, say

if TYPE_CHECKING:
    from vision_mlops.config.own_code import CodeReference


def evaluate(
    bundle: Annotated[str, typer.Option(help=BUNDLE_HELP)],
    data: Annotated[Path, typer.Option(help="Prepared data.")],
    out: Annotated[Path, typer.Option(help="Folder to write the report to.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split to evaluate on.")] = "test",
    robustness: Annotated[
        bool | None,
        typer.Option(
            "--robustness/--no-robustness",
            help="Also score the images with blur, noise, compression and low contrast, at five strengths"
            " (20 times the work).",
            show_default="set by --workload, else no",
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            "-w",
            help="Name of a workload, or path of a YAML file, whose evaluation section says whether to measure robustness,"
            " and names metrics of your own.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Measure a bundle on the test images and write a report.

    Example: `mlops evaluate --bundle textile@champion --data outputs/data/textile --out outputs/reports/champion`
    """
    from vision_mlops.evaluation.evaluate import evaluate as run
    from vision_mlops.evaluation.evaluate import headline

    own_metrics: list[CodeReference] = []
    if workload is not None:
        from vision_mlops.config import load_workload
        from vision_mlops.config.own_code import references

        loaded = load_workload(workload)
        own_metrics = references(loaded, ["evaluation"])
        robustness = loaded.evaluation.robustness if robustness is None else robustness
    chosen = choose_bundle(bundle).folder
    with count_bar("scoring corrupted images") as progress:
        evaluation = run(
            chosen,
            data,
            out,
            split=split,
            robustness=bool(robustness),
            own_metrics=own_metrics,
            progress=progress,
        )
    metrics = evaluation.metrics
    if metrics["run_id"]:
        from vision_mlops.tracking import mlflow_runs

        if not mlflow_runs.log_evaluation(metrics["run_id"], headline(metrics), evaluation.folder):
            say(f"note: the run {metrics['run_id']} is not in this tracking store; the report is only on disk")
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
    for name, value in metrics.get("metrics", {}).items():
        say(f"{name} {value:.4f}")
    if "robustness" in metrics:
        _show_robustness(metrics["robustness"])
    say(f"report: {evaluation.folder / 'report.html'}")


def _show_robustness(found: dict[str, Any]) -> None:
    rows = [
        {
            "corruption": name,
            **{f"strength {row['strength']}": f"{row['accuracy']:.4f}" for row in one["strengths"]},
            "mean": f"{one['accuracy']:.4f}",
        }
        for name, one in found["corruptions"].items()
    ]
    emit_table(rows, as_json=False)
    say(f"accuracy on corrupted images {found['robustness_accuracy']:.4f}, the mean over all corruptions and strengths")
