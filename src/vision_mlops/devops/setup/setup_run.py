"""A set-up in two steps: look at everything and change nothing, then create what is missing, and report what was created."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vision_mlops.core.errors import AzureError
from vision_mlops.devops.setup.setup_part import SetupFinding, SetupPart, Standing

_AGAIN = "run the same command again: it continues with what is missing"


@dataclass(frozen=True)
class SetupRow:
    """A part, and its state."""

    part: SetupPart
    finding: SetupFinding

    def to_dict(self) -> dict[str, str]:
        """Return the row as it is displayed."""
        shown = {"kind": self.part.kind, "name": self.part.label.removeprefix(f"{self.part.kind} ")}
        return {**shown, "state": str(self.finding.standing), "detail": self.finding.detail}


def look(parts: Iterable[SetupPart]) -> list[SetupRow]:
    """Find out the state of each part. Sends reads only. Raises AzureError."""
    return [SetupRow(part, part.look()) for part in parts]


def of_standing(rows: Iterable[SetupRow], *standings: Standing) -> list[SetupRow]:
    """Return the rows whose parts have one of the given standings."""
    return [row for row in rows if row.finding.standing in standings]


def make(rows: Iterable[SetupRow], told: Callable[[str], None]) -> list[SetupRow]:
    """Create what is missing and change what differs, in order.

    Args:
        rows: What :func:`look` has found.
        told: Gets a message for each part once it is created.

    Returns:
        The rows of what was created.

    Raises:
        AzureError: a part could not be created; names it, and what was created before.
    """
    made: list[SetupRow] = []
    for row in rows:
        if row.finding.standing is Standing.EXISTS:
            continue
        part = row.part
        try:
            # It may exist since the part that it needs was created: a new project has a repository, for example.
            finding = part.look()
            if finding.standing is Standing.BLOCKED:
                raise AzureError(f"{part.label}: {finding.detail}", finding.fix)
            if finding.standing in (Standing.CREATE, Standing.DIFFERS):
                part.make()
                made.append(SetupRow(part, finding))
                told(f"{'created' if finding.standing is Standing.CREATE else 'changed'} {part.label}")
        except AzureError as error:
            hint = f"{error.hint}; then {_AGAIN}" if error.hint and _AGAIN not in error.hint else error.hint or _AGAIN
            raise AzureError(f"{error.message}\n{_summary(made)}", hint, error.status) from error
        except KeyboardInterrupt:
            told(_summary(made))
            told(f"{part.label} may have been created or not: run the same command again, which checks first")
            raise
    return made


def _summary(made: list[SetupRow]) -> str:
    return f"created before that: {', '.join(row.part.label for row in made) or 'nothing'}"
