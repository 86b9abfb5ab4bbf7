"""The report of an evaluation: one HTML file with everything inside, readable without a network."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

from vision_mlops.core.text import counted
from vision_mlops.evaluation.report_page import render_page, table

PLOTS = ("confusion_matrix.svg", "reliability.svg", "roc.svg", "precision_recall.svg")
ROBUSTNESS_PLOT = "robustness.svg"
REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("evaluation_report.html")
_IMAGES = {".png": "image/png", ".svg": "image/svg+xml"}


def render(folder: Path, metrics: dict[str, Any], verdict: dict[str, Any] | None = None) -> str:
    """Render the report of the evaluation in ``folder``, whose pictures it takes in.

    Args:
        folder: Folder of the pictures.
        metrics: Content of metrics.json.
        verdict: Content of verdict.json, once the gate has judged.
    """
    low, high = metrics["accuracy_interval"]
    latency = metrics["latency_ms"]
    cards = [
        ("Accuracy", f"{metrics['accuracy']:.2%}", f"95% interval {low:.1%} to {high:.1%}"),
        (
            "Macro F1",
            f"{metrics['macro_f1']:.4f}",
            f"{counted(metrics['images'], 'image')} of the {metrics['split']} split",
        ),
        (
            "Calibration error",
            f"{metrics['expected_calibration_error']:.4f}",
            f"temperature {metrics['temperature']:.2f}",
        ),
        ("Latency", f"{latency['median']:.1f} ms", f"p95 {latency['p95']:.1f} ms, one thread, from file to result"),
    ]
    return render_page(
        _TEMPLATE,
        title=html.escape(f"Evaluation of {metrics['name']}"),
        cards="".join(_card(*card) for card in cards),
        verdict=_verdict(verdict),
        classes=table(
            ("class", "precision", "recall", "F1", "AUC", "images"),
            (
                (name, *(_number(row[key]) for key in ("precision", "recall", "f1", "auc")), str(row["support"]))
                for name, row in metrics["per_class"].items()
            ),
        ),
        own_metrics=_own_metrics(metrics.get("metrics")),
        plots="".join(_plot(folder / name) for name in PLOTS),
        robustness=_robustness(folder, metrics.get("robustness")),
        mistakes=_mistakes(folder, metrics["mistakes"]),
        facts=table(
            ("fact", "value"),
            ((key.replace("_", " "), str(metrics[key])) for key in
             ("name", "bundle_id", "backbone", "trained", "git_commit", "run_id", "data_fingerprint", "graph_bytes")),
        ),
    )  # fmt: skip


def _plot(path: Path) -> str:
    found = path if path.is_file() else path.with_suffix(".png")  # in older evaluations
    return f'<img alt="{path.stem.replace("_", " ")}" src="{_data_url(found)}">'


def _card(title: str, value: str, detail: str) -> str:
    return f"<div class=card><h3>{title}</h3><strong>{value}</strong><small>{html.escape(detail)}</small></div>"


def _verdict(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return "<p>Not judged yet: run <code>mlops gate</code>.</p>"
    signs = {True: "passed", False: "failed", None: "note"}
    rows = ((reason["check"], signs[reason["passed"]], reason["message"]) for reason in verdict["reasons"])
    decision = html.escape(verdict["decision"])
    return f'<p class="decision {decision}">{decision}</p>' + table(("check", "result", "why"), rows)


def _robustness(folder: Path, found: dict[str, Any] | None) -> str:
    """Return the section on corrupted images; empty if they were not measured."""
    if found is None:
        return ""
    corruptions = found["corruptions"]
    strengths = [str(row["strength"]) for row in next(iter(corruptions.values()))["strengths"]]
    rows = (
        (name, *(_with_interval(row) for row in one["strengths"]), f"{one['accuracy']:.1%}")
        for name, one in corruptions.items()
    )
    return (
        "<h2>Corrupted images</h2>"
        f"<p>Accuracy by strength, with its 95% interval. The mean over all is {found['robustness_accuracy']:.2%}.</p>"
        f'<div class="plots">{_plot(folder / ROBUSTNESS_PLOT)}</div>'
    ) + table(("corruption", *strengths, "mean"), rows)


def _own_metrics(found: dict[str, float] | None) -> str:
    """Return the section on the project's own metrics; empty if there are none."""
    if not found:
        return ""
    return "<h2>Metrics of this project</h2>" + table(
        ("metric", "value"), ((name, _number(found[name])) for name in found)
    )


def _with_interval(row: dict[str, Any]) -> str:
    low, high = row["accuracy_interval"]
    return f"{row['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def _mistakes(folder: Path, mistakes: list[dict[str, Any]]) -> str:
    if not mistakes:
        return "<p>No image was misclassified.</p>"
    figures = (
        f'<figure><img alt="{html.escape(item["path"])}" src="{_data_url(folder / item["image"])}"><figcaption>'
        f"{html.escape(item['path'])}: is <b>{html.escape(item['label'])}</b>, taken for"
        f" <b>{html.escape(item['predicted'])}</b> with {item['probability']:.1%}</figcaption></figure>"
        for item in mistakes
    )
    return "".join(figures)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _data_url(path: Path) -> str:
    return f"data:{_IMAGES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
