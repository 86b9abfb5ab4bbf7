"""Scans a repository for version 1 of Azure ML, and for what was retired: ``mlops migrate scan``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

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
        """Two lines: what it is, and what to do."""
        verb = "ended" if self.severity is Severity.ERROR else "ends"
        since = f"{self.what} ({verb} on {self.day})" if self.day else self.what
        return f"{self.place}: {self.severity}: {self.name}: {since}\n  -> {self.replacement} ({self.guide})"

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


@dataclass
class ScanResult:
    """What a scan has found, and how much it looked at."""

    findings: list[MigrationFinding] = field(default_factory=list)
    files: int = 0
    too_large: list[str] = field(default_factory=list)

    def fails(self, severity: str) -> bool:
        """Whether a finding is of this severity or a worse one; ``never`` is none."""
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
                found.add(_unreadable(entry.name, entry.problem))
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
            found.add(_unreadable(entry.name, f"cannot be read ({error.strerror})"))
            continue
        if b"\0" in content[:8192]:
            continue  # binary, whatever it is called
        result.files += 1
        found.update(_of_file(entry.name, content.decode("utf-8-sig", errors="replace"), today))
    result.findings = sorted(found)
    return result


def _of_file(name: str, text: str, today: date) -> Iterator[MigrationFinding]:
    if name.endswith(".ipynb"):
        yield from _of_notebook(name, text, today)
        return
    yield from _of_lines(name, 0, text, today)
    if name.endswith(".py"):
        yield from _of_python(name, 0, text, today)


def _of_notebook(name: str, text: str, today: date) -> Iterator[MigrationFinding]:
    try:
        cells, python = read_notebook(text)
    except (ValueError, RecursionError) as error:
        yield _unreadable(name, f"is not a notebook ({error})")
        return
    yield from _of_uses([("python", python)] if python else [], name, 0, 0, today)
    for cell in cells:
        yield from _of_lines(name, cell.number, cell.text, today)
    # One after another, as they are run: a later cell uses what an earlier one has imported.
    good = [cell for cell in cells if cell.python and _is_python(cell.python)]
    lines = [(cell.number, line) for cell in good for line in range(1, len(cell.python.splitlines()) + 1)]
    for line, dotted in _names("\n".join(cell.python for cell in good)):
        yield from _of_match(match_python(dotted), name, *lines[line - 1], today)
    for cell in cells:
        if cell not in good:
            yield from _of_python(name, cell.number, cell.python, today)


def _names(code: str) -> Iterator[tuple[int, str]]:
    return names_in(code, v1_names().returns, v1_names().elements)


def _is_python(text: str) -> bool:
    try:
        names_in(text, {})
    except SyntaxError:
        return False
    return True


def _of_python(name: str, cell: int, text: str, today: date) -> Iterator[MigrationFinding]:
    try:
        for line, dotted in _names(text):
            yield from _of_match(match_python(dotted), name, cell, line, today)
    except SyntaxError as error:
        topic = v1_names().topic(_OLD_PYTHON)
        yield MigrationFinding(
            name, cell, error.lineno or 0, "syntax", Severity.ERROR,
            f"this is not valid code for Python 3.11 or later ({error.msg})", "", "rewrite it for Python 3", topic.link,
        )  # fmt: skip
        for line, content in enumerate(text.splitlines(), start=1):
            if found := _IMPORT.match(content):
                yield from _of_match(match_python(".".join(filter(None, found.groups()))), name, cell, line, today)


def _of_lines(name: str, cell: int, text: str, today: date) -> Iterator[MigrationFinding]:
    lines = ["" if line.lstrip().startswith(("#", "//")) else line for line in text.splitlines()]
    for number, command in match_commands("\n".join(lines)):
        yield from _of_match(command, name, cell, number, today)
    for number, line in enumerate(lines, start=1):
        for match in match_line(line):
            yield from _of_match(match, name, cell, number, today)
        yield from _of_uses(uses_of_line(line), name, cell, number, today)
        if oldest := _OLDEST_PYTHON.search(line):
            for found in retired_uses([Use("python", oldest[1], "")]):
                # It runs on newer ones, too: this is advice.
                what = f"the oldest Python that is allowed; {found.describe(today)}"
                advice = Match(oldest[0], what, None, found.retirement.replacement, v1_names().topic(_RETIRED))
                yield from _of_match(advice if found.is_over(today) else None, name, cell, number, today)


def _of_uses(
    uses: Iterable[tuple[str, str]], name: str, cell: int, line: int, today: date
) -> Iterator[MigrationFinding]:
    for found in retired_uses(Use(kind, used, "") for kind, used in uses):
        row = found.retirement
        topic = v1_names().topic(_TASKS if row.kind == "task" else _RETIRED)
        used_name = f"python {found.use.name}" if row.kind == "python" else found.use.name
        known = Match(used_name, row.what.rstrip(","), row.day, row.replacement, topic)
        yield from _of_match(known, name, cell, line, today)


def _of_match(match: Match | None, name: str, cell: int, line: int, today: date) -> Iterator[MigrationFinding]:
    if match is None:
        return
    severity = Severity.NOTE
    if match.day is not None and match.day <= today + timedelta(days=WARNING_DAYS):
        severity = Severity.ERROR if match.day <= today else Severity.WARNING
    yield MigrationFinding(
        name, cell, line, match.name, severity, match.ended, str(match.day or ""), match.replacement, match.topic.link
    )


def _unreadable(name: str, problem: str) -> MigrationFinding:
    topic = v1_names().topic(_UNREADABLE)
    return MigrationFinding(name, 0, 0, "file", Severity.WARNING, f"it {problem}", "", "check it by hand", topic.link)
