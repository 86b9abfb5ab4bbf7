"""What is wrong with a definition: one finding names file, line, rule, and what mends it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


class Severity(enum.StrEnum):
    """An error would make the job fail or do something else than meant; a warning would not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One mistake, with the place to mend it."""

    file: str
    line: int
    severity: Severity
    rule: str
    message: str
    suggestion: str

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}: {self.severity.value}[{self.rule}]: {self.message}"
        return f"{head}\n  -> {self.suggestion}" if self.suggestion else head


class Findings:
    """Collects findings; the same one twice (a component that two steps use) is kept once."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def error(self, file: Path, line: int, rule: str, message: str, suggestion: str) -> None:
        """Add an error."""
        self._add(Finding(str(file), line, Severity.ERROR, rule, message, suggestion))

    def warning(self, file: Path, line: int, rule: str, message: str, suggestion: str) -> None:
        """Add a warning."""
        self._add(Finding(str(file), line, Severity.WARNING, rule, message, suggestion))

    def _add(self, finding: Finding) -> None:
        self._found.setdefault(finding)

    def __iter__(self) -> Iterator[Finding]:
        return iter(sorted(self._found, key=lambda finding: (finding.file, finding.line)))

    def __len__(self) -> int:
        return len(self._found)

    @property
    def errors(self) -> list[Finding]:
        """Errors only, by file and line."""
        return [finding for finding in self if finding.severity is Severity.ERROR]
