"""The result of a run of the training pipeline: the verdict of the gate, the registered version, and the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vision_mlops.cli.output import say
from vision_mlops.core.errors import MlopsError


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The result of a run.

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
        """Whether the gate passed the candidate."""
        return self.decision == "promote"


def run_verdict(outputs: Mapping[str, str], model: str, registry: str | None = None) -> RunVerdict | None:
    """Return the verdict of a completed pipeline; None if it judges nothing.

    Args:
        outputs: Outputs of the pipeline, by name.
        model: Name of the model that it registers a version of.
        registry: Address of the registry that it uses; that of this environment by default.

    Raises:
        DataError: its output ``verdict`` is not a verdict.
    """
    from vision_mlops.evaluation.gate import read_verdict
    from vision_mlops.registry import CHAMPION, open_registry
    from vision_mlops.registry.model_versions import preferred

    if "verdict" not in outputs:
        return None
    verdict = read_verdict(Path(outputs["verdict"]))
    decision, reasons, candidate = verdict["decision"], verdict.get("reasons", []), verdict.get("candidate")
    try:
        versions = open_registry(registry).versions(model)
    except MlopsError as error:
        return RunVerdict(decision, reasons, model, note=error.message)
    registered = preferred(each for each in versions if each.bundle_id == candidate)
    champion = next((each.reference for each in versions if CHAMPION in each.aliases), "")
    return RunVerdict(decision, reasons, model, registered.reference if registered else "", champion)


def tell(verdict: RunVerdict | None) -> None:
    """Print the reasons on standard error; the verdict, and what became of the candidate, on standard output."""
    if verdict is None:
        return
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
    """Return 1 if the gate did not pass the candidate, as `mlops gate --fail-on inconclusive`, otherwise 0."""
    return 0 if verdict is None or verdict.promoted else 1
