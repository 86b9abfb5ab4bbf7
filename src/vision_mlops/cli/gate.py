"""``mlops gate``: judge whether a model may replace the champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vision_mlops.cli.data.workload_choice import workload_named
from vision_mlops.cli.options import ChosenWorkloadOption, JsonOption, SetOption
from vision_mlops.cli.output import emit_json, say
from vision_mlops.core.errors import MlopsError

if TYPE_CHECKING:
    from vision_mlops.evaluation.evaluate import Evaluation


FailOnVerdict = Literal["never", "reject", "inconclusive"]
FailOnOption = Annotated[
    FailOnVerdict,
    typer.Option(
        "--fail-on", help="Exit with code 1 at this verdict or a worse one; a missing verdict is inconclusive."
    ),
]


def gate(
    candidate: Annotated[Path, typer.Option(help="Evaluation of the candidate.")],
    champion: Annotated[Path | None, typer.Option(help="Evaluation of the champion, if any.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Evaluate the champion of this registered model now, on --data.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data for --against.")] = None,
    workload: ChosenWorkloadOption = None,
    set_: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write the verdict to.", show_default="CANDIDATE/verdict.json")
    ] = None,
    fail_on: FailOnOption = "never",
    json_: JsonOption = False,
) -> None:
    """Judge a candidate: promote, reject or inconclusive, with the reasons.

    The candidate is compared with the champion whose evaluation `--champion` gives or whose model `--against` names. Without
    a champion, only the floors of the workload decide.

    Example: `mlops gate --candidate outputs/reports/textile --fail-on reject`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.evaluation.gate import decide, write_verdict

    if against and (champion or data is None):
        raise MlopsError(
            "--against needs --data, and cannot be combined with --champion", "for example --against textile --data DIR"
        )
    candidates = read_evaluation(candidate)
    settings = load_workload(workload_named(workload, str(candidates.metrics.get("name"))), set_ or ()).gate
    other = read_evaluation(champion) if champion else None
    if against and data is not None:
        other = _champion(against, candidates, data)
    verdict = decide(candidates, other, settings)
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


def exit_on(decision: str, fail_on: FailOnVerdict) -> None:
    """End the command with exit code 1 at the verdicts that the caller wants to fail."""
    fails = {"never": (), "reject": ("reject",), "inconclusive": ("reject", "inconclusive")}
    if decision in fails[fail_on]:
        say(f"the verdict is {decision}: exit code 1 because of --fail-on {fail_on}")
        raise typer.Exit(1)
