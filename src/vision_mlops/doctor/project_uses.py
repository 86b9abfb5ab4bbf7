"""What a project uses of that which can be retired: sizes of machines, agents, actions, Python, packages, services.

Files are read line by line, not parsed: a name counts wherever it stands, except in comments.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import vision_mlops
from vision_mlops.config.azure_settings import VARIABLES, AzureSettings
from vision_mlops.config.retirements import Use, retired_uses
from vision_mlops.config.variable_settings import read_env_file
from vision_mlops.core.errors import MlopsError
from vision_mlops.doctor.check_results import Diagnosis, failure, ok, warning

_PLACES = (
    ".github", "ado_pipelines", "environments", "examples", "infrastructure", "jobs", "pipelines", "requirements",
    "template", "workloads",
)  # fmt: skip
_SUFFIXES = (".yml", ".yaml", ".bicep", ".bicepparam", ".json", ".txt", ".sh", ".toml")
_NAMES = ("Dockerfile", "Makefile", "pyproject.toml")
_LARGEST = 1_000_000
_PATTERNS = (
    ("sku", re.compile(r"\b(Standard_[A-Z]+\d+[A-Z0-9_-]*)", re.IGNORECASE)),
    ("agent", re.compile(r"(?:vmImage|runs-on)\s*:\s*['\"]?([\w.-]+)")),
    # Pools of Microsoft's agents, as they were called before `vmImage`.
    ("agent", re.compile(r"\b(?:pool|queue|name)\s*:\s*['\"]?(Hosted(?: \w+)*)\s*['\"},]?\s*(?:#.*)?$")),
    ("task", re.compile(r"\btask\s*:\s*['\"]?([\w.-]+@\d+)")),
    (
        "image",
        re.compile(r"(?:^\s*FROM\s+(?:--\S+\s+)*|image['\"]?\s*[:=]\s*['\"]?)([\w./-]+:[\w.-]+)", re.IGNORECASE),
    ),
    (
        "python",
        re.compile(
            r"(?:\bpython(?:[:|]|\s*=+\s*|_?Version['\"]?\s*[:=]\s*['\"]?)|\bversionSpec\s*:\s*['\"]?)(\d+\.\d+)",
            re.IGNORECASE,
        ),
    ),
    ("package", re.compile(r"^\s*(?:-\s*)?['\"]?((?:azure|azureml)-[a-z0-9-]+)\b")),
    ("package", re.compile(r"(?<![\w/.-])(azureml-[a-z][a-z0-9-]*)")),
    ("service", re.compile(r"\b(CustomVision)\.(?:Training|Prediction)\b")),
)
# Pinned by commit, with the version in a comment.
_ACTION = re.compile(r"\buses:\s*['\"]?([\w.-]+/[\w./-]+)@([\w.-]+)['\"]?(?:\s*#\s*(v[\d.]+))?")
_SIZES = ("instance_type", "cpu_sku", "gpu_sku")


def check_retirements(project: Path, today: date, environ: Mapping[str, str] | None = None) -> Iterator[Diagnosis]:
    """Warn of each use of something that is retired soon; what already was is a failure."""
    uses = [*uses_of_files(project), *uses_of_settings(project, environ), Use("python", platform.python_version(), "")]
    near = [found for found in retired_uses(uses) if found.is_near(today)]
    for found in near:
        fix = f"use {found.retirement.replacement}"
        make = failure if found.is_over(today) else warning
        yield make("retired" if found.is_over(today) else "retirement", found.describe(today), fix)
    if not near:
        yield ok(
            "retirements",
            f"{len(set(uses)):,} services, sizes, agents and actions checked; none is being retired soon",
        )


def uses_of_files(project: Path) -> Iterator[Use]:
    """Find what the files of a project name, and the definitions that ship with this package."""
    own = Path(vision_mlops.__file__).parent
    for root in (
        *(project / place for place in _PLACES),
        own / "jobs/pipelines",
        own / "endpoints/azureml/definitions",
    ):
        for file in _files(root):
            shown = file.relative_to(project) if file.is_relative_to(project) else file.relative_to(own.parent)
            yield from _of_file(file, str(shown))
    for name in (*_NAMES, *(path.name for path in project.glob("*.y*ml"))):
        if (project / name).is_file():
            yield from _of_file(project / name, name)


def uses_of_settings(project: Path, environ: Mapping[str, str] | None = None) -> Iterator[Use]:
    """Find sizes of machines in the settings of Azure, as far as they are set or have a default that is used."""
    given = dict(os.environ if environ is None else environ)
    with contextlib.suppress(MlopsError):  # what reads all of the file reports what is wrong with it
        given = {**read_env_file(project / ".env"), **given}
    for variable, field in VARIABLES.items():
        if field in _SIZES:
            set_here = given.get(variable, "").strip()
            name = set_here or str(AzureSettings.model_fields[field].default)
            yield Use("sku", name, f"{variable}{'' if set_here else ', default'}")


def uses_of_line(line: str) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what one line uses; nothing where it is a comment."""
    if line.lstrip().startswith(("#", "//")):
        return
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(line):
            yield kind, match[1]
    if action := _ACTION.search(line):
        yield "action", f"{action[1]}@{action[3] or action[2]}"


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "node_modules", ".git"))
        for name in sorted(names):
            if name.endswith(_SUFFIXES) or name in _NAMES:
                yield Path(folder, name)


def _of_file(file: Path, shown: str) -> Iterator[Use]:
    try:
        if file.stat().st_size > _LARGEST:
            return
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return  # nothing here reads such a file
    for number, line in enumerate(lines, start=1):
        for kind, name in uses_of_line(line):
            yield Use(kind, name, f"{shown}:{number}")
