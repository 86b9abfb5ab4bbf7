"""``mlops evaluate`` and ``mlops gate``: how good a bundle is, and whether it may replace the champion."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.options import JsonOption, SetOption, WorkloadOption
from vision_mlops.cli.output import emit_json, emit_table, say
from vision_mlops.core.errors import MlopsError

if TYPE_CHECKING:
    from vision_mlops.evaluation.evaluate import Evaluation


class Split(enum.StrEnum):
    """Splits of prepared data."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class FailOn(enum.StrEnum):
    """Verdicts that end the command with exit code 1."""

    NEVER = "never"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


def evaluate(
    bundle: Annotated[Path, typer.Option("--bundle", help="Model bundle.")],
    data: Annotated[Path, typer.Option("--data", help="Prepared data.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")],
    split: Annotated[Split, typer.Option("--split", help="Split to evaluate on.")] = Split.TEST,
    json_: JsonOption = False,
) -> None:
    """Measure a bundle on the test images and write a report.

    Example: `mlops evaluate --bundle outputs/bundles/textile --data outputs/data/textile --out outputs/reports/textile`
    """
    from vision_mlops.evaluation.evaluate import evaluate as run
    from vision_mlops.evaluation.evaluate import headline

    evaluation = run(bundle, data, out, split=split.value)
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


def gate(
    candidate: Annotated[Path, typer.Option("--candidate", help="Evaluation of the candidate.")],
    champion: Annotated[Path | None, typer.Option("--champion", help="Evaluation of the champion, if any.")] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Registered model whose champion is evaluated now, on --data.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared data, for --against.")] = None,
    workload: WorkloadOption = "textile",
    set_: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File of the verdict; default CANDIDATE/verdict.json.")
    ] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="Verdict that gives exit code 1.")] = FailOn.NEVER,
    json_: JsonOption = False,
) -> None:
    """Judge a candidate: promote, reject or inconclusive, with the reasons.

    It is compared with the champion that `--champion` gives as a report or `--against` names; without a champion, the
    floors of the workload decide alone.

    Example: `mlops gate --candidate outputs/reports/textile --fail-on reject`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.evaluation.gate import judge, write_verdict

    if against and (champion or data is None):
        raise MlopsError("--against needs --data, and no --champion", "for example --against textile --data DIR")
    settings = load_workload(workload, set_ or ()).gate
    candidates = read_evaluation(candidate)
    other = read_evaluation(champion) if champion else None
    if against and data is not None:
        other = _champion(against, candidates, data)
    verdict = judge(candidates, other, settings)
    target = write_verdict(verdict, candidates, out)
    if json_:
        emit_json(verdict.to_dict())
    else:
        signs = {True: "ok  ", False: "FAIL", None: "note"}
        for reason in verdict.reasons:
            typer.echo(f"  {signs[reason.passed]}  {reason.message}")
        typer.echo(f"verdict: {verdict.decision}")
    say(f"written: {target}")
    exit_on(verdict.decision, fail_on)


def _champion(name: str, candidate: Evaluation, data: Path) -> Evaluation | None:
    import tempfile

    from vision_mlops.registry import open_registry
    from vision_mlops.registry.champion import champion_evaluation

    with tempfile.TemporaryDirectory() as folder:
        found, note = champion_evaluation(open_registry(), name, candidate, data, Path(folder))
    say(note)
    return found


def exit_on(decision: str, fail_on: FailOn) -> None:
    """Exit code 1 for the verdicts that the caller wants to fail."""
    fails = {FailOn.NEVER: (), FailOn.REJECT: ("reject",), FailOn.INCONCLUSIVE: ("reject", "inconclusive")}
    if decision in fails[fail_on]:
        say(f"the gate did its work: exit code 1 because of --fail-on {fail_on.value}")
        raise typer.Exit(1)
