"""``mlops gate``: whether a model may replace the champion."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.data.workload_choice import workload_named
from vision_mlops.cli.options import ChosenWorkloadOption, JsonOption, SetOption
from vision_mlops.cli.output import emit_json, say
from vision_mlops.core.errors import MlopsError

if TYPE_CHECKING:
    from vision_mlops.evaluation.evaluate import Evaluation


class FailOnVerdict(enum.StrEnum):
    """Verdicts that end the command with exit code 1."""

    NEVER = "never"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


def gate(
    candidate: Annotated[Path, typer.Option("--candidate", help="Evaluation of the candidate.")],
    champion: Annotated[Path | None, typer.Option("--champion", help="Evaluation of the champion, if any.")] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Registered model whose champion is evaluated now, on --data.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Prepared data, for --against.")] = None,
    workload: ChosenWorkloadOption = None,
    set_: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File of the verdict; default CANDIDATE/verdict.json.")
    ] = None,
    fail_on: Annotated[
        FailOnVerdict, typer.Option("--fail-on", help="Verdict that gives exit code 1.")
    ] = FailOnVerdict.NEVER,
    json_: JsonOption = False,
) -> None:
    """Judge a candidate: promote, reject or inconclusive, with the reasons.

    It is compared with the champion that `--champion` gives as a report or `--against` names; without a champion, the
    floors of the workload decide alone.

    Example: `mlops gate --candidate outputs/reports/textile --fail-on reject`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.evaluation.evaluate import read_evaluation
    from vision_mlops.evaluation.gate import decide, write_verdict

    if against and (champion or data is None):
        raise MlopsError("--against needs --data, and no --champion", "for example --against textile --data DIR")
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
    """Exit code 1 for the verdicts that the caller wants to fail."""
    fails = {
        FailOnVerdict.NEVER: (),
        FailOnVerdict.REJECT: ("reject",),
        FailOnVerdict.INCONCLUSIVE: ("reject", "inconclusive"),
    }
    if decision in fails[fail_on]:
        say(f"the gate did its work: exit code 1 because of --fail-on {fail_on.value}")
        raise typer.Exit(1)
