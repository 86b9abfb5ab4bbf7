"""Findings: what is wrong with a definition, each with its file, line, rule and fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core.errors import Severity

# An error is what Azure refuses or what cannot run anywhere; a warning is what Azure tolerates.
_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
# docs/lint_rules.md says what Azure does about each, and how that is known; a test compares it with this table.
RULES = {
    "binding": _ERROR,
    "binding-type": _ERROR,
    "code-missing": _ERROR,
    "component": _ERROR,
    "component-missing": _ERROR,
    "cron": _ERROR,
    "cycle": _ERROR,
    "duplicate-output": _ERROR,
    "early-termination": _ERROR,
    "environment-missing": _ERROR,
    "expression": _ERROR,
    "file": _ERROR,
    "input-range": _ERROR,
    "input-type": _ERROR,
    "job-missing": _ERROR,
    "kind": _ERROR,
    "missing-input": _ERROR,
    "missing-key": _ERROR,
    "name": _ERROR,
    "optional-input": _ERROR,
    "path-missing": _ERROR,
    "sampling": _ERROR,
    "sdk": _ERROR,
    "search-space": _ERROR,
    "step-type": _ERROR,
    "trial": _ERROR,
    "trigger": _ERROR,
    "undeclared-input": _ERROR,
    "undeclared-output": _ERROR,
    "unknown-input": _ERROR,
    "unknown-job": _ERROR,
    "unknown-key": _ERROR,
    "unknown-output": _ERROR,
    "value": _ERROR,
    "yaml": _ERROR,
    "artifacts": _WARNING,
    "component-name": _WARNING,
    "compute": _WARNING,
    "cron-months": _WARNING,
    "data-type": _WARNING,
    "duplicate-key": _WARNING,
    "fraction": _WARNING,
    "ignored-key": _WARNING,
    "input-enum": _WARNING,
    "input-missing": _WARNING,
    "input-name": _WARNING,
    "limits": _WARNING,
    "mini-batches": _WARNING,
    "path": _WARNING,
    "private-preview": _WARNING,
    "reference": _WARNING,
    "schema": _WARNING,
    "search-bounds": _WARNING,
    "shared-path": _WARNING,
    "surplus-input": _WARNING,
    "tag": _WARNING,
    "text-value": _WARNING,
    "unused-input": _WARNING,
    "unused-output": _WARNING,
    "unused-search-space": _WARNING,
}


@dataclass(frozen=True)
class Finding:
    """One mistake, with its place and how to fix it."""

    file: str
    line: int
    severity: Severity
    rule: str
    message: str
    suggestion: str

    def on_one_line(self) -> str:
        """Return the finding without its fix, for a job that runs anyway."""
        return f"{self.severity.value}: {self.file}:{self.line}: {self.message}"

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}: {self.severity.value}[{self.rule}]: {self.message}"
        return f"{head}\n  -> {self.suggestion}" if self.suggestion else head


class Findings:
    """Collects findings; one that is reported twice, for a component that two steps use, is kept once."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def report(self, file: Path, line: int, rule: str, message: str, suggestion: str) -> None:
        """Add a finding with the severity of its rule."""
        self._found.setdefault(Finding(str(file), line, RULES[rule], rule, message, suggestion))

    def __iter__(self) -> Iterator[Finding]:
        return iter(sorted(self._found, key=lambda finding: (finding.file, finding.line)))

    def __len__(self) -> int:
        return len(self._found)

    @property
    def errors(self) -> list[Finding]:
        """The errors, by file and line."""
        return [finding for finding in self if finding.severity is Severity.ERROR]
