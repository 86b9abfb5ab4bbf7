"""Scans a repository for version 1 of Azure ML, and for what was retired: ``mlops migrate scan``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

from vision_mlops.config.retirements import WARNING_DAYS, Use, retired_uses
from vision_mlops.core.errors import DataError, Severity
from vision_mlops.core.folder_walk import EntryKind, walk
from vision_mlops.core.ignore_files import GitIgnored
from vision_mlops.doctor.migration.notebook_cells import read_notebook
from vision_mlops.doctor.migration.python_names import names_in
from vision_mlops.doctor.migration.v1_names import Match, match_commands, match_line, match_python, v1_names
from vision_mlops.doctor.project_uses import uses_of_line

_LEFT_OUT = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", "venv", "site-packages", "node_modules", "__pycache__", ".tox", ".nox", "mlruns",
        ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".terraform",
    }
)  # fmt: skip
_SUFFIXES = frozenset(
    {
        ".bash", ".bat", ".bicep", ".bicepparam", ".cfg", ".cmd", ".env", ".ini", ".ipynb", ".json", ".ps1", ".psm1", ".py",
        ".runconfig", ".sh", ".tf", ".toml", ".txt", ".yaml", ".yml",
    }
)  # fmt: skip
_NAMES = re.compile(r"(.*\.)?Dockerfile(\..*)?|Makefile|\.env(\..*)?|Pipfile|Jenkinsfile")
_LARGEST, _LARGEST_NOTEBOOK = 1_000_000, 50_000_000
_IMPORT = re.compile(r"^\s*(?:from|import)\s+(azureml[\w.]*)(?:\s+import\s+(\w+))?")
_TASKS, _RETIRED, _OLD_PYTHON = "Azure DevOps", "Machines, agents, images and Python", "Python 2"
_UNREADABLE = "Files that cannot be read"
# The oldest Python that a package allows; the upper bound beside it does not count.
_OLDEST_PYTHON = re.compile(
    r"(?:\bpython_requires\s*=|\brequires-python\s*=|^python\s*=)\s*['\"]?(?:[^'\"]*,\s*)?(?:>=|>|~=|==|\^|~)?\s*(\d\.\d+)"
)
_READ_ALTHOUGH_IGNORED = re.compile(r"\.env(\..*)?")


@dataclass(frozen=True, order=True)
class MigrationFinding:
    """Something that has to change.

    Attributes:
        file: Relative to the folder that was looked through.
        cell: Of a notebook, from 1 on; 0 in other files.
        line: From 1 on, in the cell or file; 0 where it is about all of it.
        name: What was found.
        severity: An error is over, a warning is over soon or a file that cannot be read, a note is over later or advice.
        what: What it belongs to.
        day: When that ended or ends, as YYYY-MM-DD; empty where no day is known.
        replacement: What to use instead.
        guide: Where that is explained.
    """

    file: str
    cell: int
    line: int
    name: str
    severity: Severity
    what: str
    day: str
    replacement: str
    guide: str

    @property
    def place(self) -> str:
        """``FILE:LINE``, or ``FILE:cell 3:LINE``."""
        return ":".join(
            [self.file, *([f"cell {self.cell}"] if self.cell else []), *([str(self.line)] if self.line else [])]
        )

    def __str__(self) -> str:
        """Return two lines: what it is, and what to do."""
        verb = "ended" if self.severity is Severity.ERROR else "ends"
        since = f"{self.what} ({verb} on {self.day})" if self.day else self.what
        return f"{self.place}: {self.severity}: {self.name}: {since}\n  -> {self.replacement} ({self.guide})"


@dataclass
class ScanResult:
    """What a scan has found, and how many files it has read."""

    findings: list[MigrationFinding] = field(default_factory=list)
    files: int = 0
    too_large: list[str] = field(default_factory=list)

    def fails(self, severity: str) -> bool:
        """Return whether a finding is of this severity or a worse one; none is as bad as ``never``."""
        return any(finding.severity.reaches(severity) for finding in self.findings)


def scan(folder: Path, today: date) -> ScanResult:
    """Scan all files of a folder that hold code or settings.

    Virtual environments, caches, binary files and data are passed over, and what git ignores, except for ``.env``.

    Args:
        folder: A repository.
        today: The date that retirements are compared with.

    Raises:
        DataError: it is not a folder, or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", "give the folder of a repository")
    result = ScanResult()
    found: set[MigrationFinding] = set()
    git = GitIgnored(folder)
    for entry in walk(folder, _LEFT_OUT.__contains__):
        path = Path(entry.path)
        if entry.kind is EntryKind.UNREADABLE:
            if not entry.name:
                raise DataError(f"{folder} {entry.problem}", "check its permissions")
            if not git.leaves_out(entry.name):
                found.add(_finding(entry.name, 0, 0, _unreadable(entry.problem), today))
            continue
        if entry.kind is not EntryKind.FILE or not (path.suffix in _SUFFIXES or _NAMES.fullmatch(path.name)):
            continue
        if git.leaves_out(entry.name) and not _READ_ALTHOUGH_IGNORED.fullmatch(path.name):
            continue
        try:
            if path.stat().st_size > (_LARGEST_NOTEBOOK if path.suffix == ".ipynb" else _LARGEST):
                result.too_large.append(entry.name)
                continue
            content = path.read_bytes()
        except OSError as error:
            problem = _unreadable(f"cannot be read ({error.strerror})")
            found.add(_finding(entry.name, 0, 0, problem, today))
            continue
        if b"\0" in content[:8192]:
            continue  # binary, whatever its name
        result.files += 1
        text = content.decode("utf-8-sig", errors="replace")
        found.update(_finding(entry.name, *place, today) for place in _in_file(entry.name, text, today))
    result.findings = sorted(found)
    return result


def _in_file(name: str, text: str, today: date) -> Iterator[tuple[int, int, Match]]:
    """Yield cell, line, and what was found there."""
    if name.endswith(".ipynb"):
        yield from _in_notebook(text, today)
        return
    for line, match in chain(_in_lines(text, today), _in_python(text) if name.endswith(".py") else ()):
        yield 0, line, match


def _in_notebook(text: str, today: date) -> Iterator[tuple[int, int, Match]]:
    try:
        cells, python = read_notebook(text)
    except (ValueError, RecursionError) as error:
        yield 0, 0, _unreadable(f"is not a notebook ({error})")
        return
    for match in _of_uses([("python", python)] if python else []):
        yield 0, 0, match
    # One after another, as they are run: a later cell uses what an earlier one has imported.
    good = [cell for cell in cells if cell.python and _is_python(cell.python)]
    lines = [(cell.number, line) for cell in good for line in range(1, len(cell.python.splitlines()) + 1)]
    for line, match in _of_names("\n".join(cell.python for cell in good)):
        yield *lines[line - 1], match
    for cell in cells:
        for line, match in chain(_in_lines(cell.text, today), _in_python(cell.python) if cell not in good else ()):
            yield cell.number, line, match


def _of_names(code: str) -> Iterator[tuple[int, Match]]:
    for line, dotted in names_in(code, v1_names().returns, v1_names().elements):
        if match := match_python(dotted):
            yield line, match


def _is_python(text: str) -> bool:
    try:
        names_in(text, {})
    except SyntaxError:
        return False
    return True


def _in_python(text: str) -> Iterator[tuple[int, Match]]:
    try:
        yield from _of_names(text)
    except SyntaxError as error:
        what, topic = f"this is not valid code for Python 3.11 or later ({error.msg})", v1_names().topic(_OLD_PYTHON)
        yield error.lineno or 0, Match("syntax", what, None, "rewrite it for Python 3", topic, Severity.ERROR)
        for line, content in enumerate(text.splitlines(), start=1):
            found = _IMPORT.match(content)
            if found and (match := match_python(".".join(filter(None, found.groups())))):
                yield line, match


def _in_lines(text: str, today: date) -> Iterator[tuple[int, Match]]:
    lines = ["" if line.lstrip().startswith(("#", "//")) else line for line in text.splitlines()]
    yield from match_commands("\n".join(lines))
    for number, line in enumerate(lines, start=1):
        for match in chain(match_line(line), _of_uses(uses_of_line(line))):
            yield number, match
        if oldest := _OLDEST_PYTHON.search(line):
            for found in retired_uses([Use("python", oldest[1], "")]):
                if found.is_over(today):  # it runs on newer versions, too: this is advice
                    what = f"the oldest Python that is allowed; {found.describe(today)}"
                    yield number, Match(oldest[0], what, None, found.retirement.replacement, v1_names().topic(_RETIRED))


def _of_uses(uses: Iterable[tuple[str, str]]) -> Iterator[Match]:
    for found in retired_uses(Use(kind, used, "") for kind, used in uses):
        row = found.retirement
        topic = v1_names().topic(_TASKS if row.kind == "task" else _RETIRED)
        used_name = f"python {found.use.name}" if row.kind == "python" else found.use.name
        yield Match(used_name, row.what.rstrip(","), row.day, row.replacement, topic)


def _finding(file: str, cell: int, line: int, match: Match, today: date) -> MigrationFinding:
    severity = match.severity
    if match.day is not None and match.day <= today + timedelta(days=WARNING_DAYS):
        severity = Severity.ERROR if match.day <= today else Severity.WARNING
    day = str(match.day or "")
    return MigrationFinding(
        file, cell, line, match.name, severity, match.ended, day, match.replacement, match.topic.link
    )


def _unreadable(problem: str) -> Match:
    topic = v1_names().topic(_UNREADABLE)
    return Match("file", f"it {problem}", None, "check it by hand", topic, Severity.WARNING)
