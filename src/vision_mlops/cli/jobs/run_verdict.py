"""What a run of the training pipeline ended with: the verdict of the gate, what was registered, and who is champion now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from vision_mlops.cli.output import say


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The end of a run.

    Attributes:
        decision: promote, reject or inconclusive.
        reasons: As in ``verdict.json``.
        model: Name of the model.
        registered: ``NAME:VERSION`` that holds the candidate; empty where none does, or the registry cannot be read.
        champion: ``NAME:VERSION`` of the champion now; empty likewise.
        note: Why the registry could not be read.
    """

    decision: str
    reasons: list[dict[str, Any]]
    model: str
    registered: str = ""
    champion: str = ""
    note: str = ""

    @property
    def promoted(self) -> bool:
        """Whether the gate let the candidate through."""
        return self.decision == "promote"

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def run_verdict(outputs: Mapping[str, str], model: str, registry: str | None = None) -> RunVerdict | None:
    """The verdict of a pipeline that completed; None where it judges nothing.

    Args:
        outputs: Of the pipeline, by name.
        model: Name of the model that it registers a version of.
        registry: Address of the registry that it registers in; that of this environment by default.

    Raises:
        DataError: its output ``verdict`` is none.
    """
    from vision_mlops.core.errors import MlopsError
    from vision_mlops.evaluation.gate import read_verdict
    from vision_mlops.registry import CHAMPION, open_registry

    if "verdict" not in outputs:
        return None
    verdict = read_verdict(Path(outputs["verdict"]))
    decision, reasons, candidate = verdict["decision"], verdict.get("reasons", []), verdict.get("candidate")
    try:
        versions = open_registry(registry).versions(model)
    except MlopsError as error:
        return RunVerdict(decision, reasons, model, note=error.message)
    registered = next((each.reference for each in reversed(versions) if each.bundle_id == candidate), "")
    champion = next((each.reference for each in versions if CHAMPION in each.aliases), "")
    return RunVerdict(decision, reasons, model, registered, champion)


def tell(verdict: RunVerdict) -> None:
    """Print the reasons on standard error; the verdict, and what became of the candidate, on standard output."""
    signs = {True: "ok  ", False: "FAIL", None: "note"}
    say("")
    for reason in verdict.reasons:
        say(f"  {signs[reason['passed']]}  {reason['message']}")
    typer.echo(f"verdict: {verdict.decision}")
    if verdict.note:
        say(f"note: {verdict.note}")
        return
    word = "is" if verdict.promoted else "stays"
    champion = f"{verdict.model}@champion {word} {verdict.champion}"
    typer.echo(
        f"registered: {verdict.registered or 'no version'};"
        f" {champion if verdict.champion else f'{verdict.model} has no champion'}"
    )


def exit_code(verdict: RunVerdict | None) -> int:
    """1 where the gate did not let the candidate through, as `mlops gate --fail-on inconclusive`; else 0."""
    return 0 if verdict is None or verdict.promoted else 1
