"""Reads conda files, or the same content inline in a definition, as requirements for pip."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.core.yaml_text import read_mapping
from vision_mlops.jobs.definitions.yaml_source import CONDA_EXAMPLE
from vision_mlops.jobs.local.environments.conda_packages import conda_package

_FILE_OPTION = re.compile(r"(-r|--requirement|-c|--constraint)[\s=]+(.+)")
_MOST_PATCHES = 50  # no series of Python has had as many releases
_EDITABLE = re.compile(r"(-e|--editable)[\s=]+")


@dataclass(frozen=True)
class CondaRequirements:
    """What a conda file asks for.

    Attributes:
        name: Name of the environment.
        lines: Lines of a requirements file of pip, which name other such files by absolute paths.
        of_conda: The lines that conda would install, by conda's name of the package.
        base: Folder that relative paths in the lines start from.
        notes: What is not available here as the file asks for it.
    """

    name: str
    lines: tuple[str, ...]
    of_conda: Mapping[str, str]
    base: Path
    notes: tuple[str, ...]

    def content(self) -> list[str]:
        """List all that the packages depend on: the lines, and the content of files and folders, but not where those are."""
        found = []
        for line in self.lines:
            option = _FILE_OPTION.fullmatch(line)
            if option:
                found += [option[1], *_file_content(Path(option[2]), self.base)]
                continue
            found += [line, *_folder_content(_EDITABLE.sub("", line), self.base)]
        return found


def read_conda_file(source: str | Mapping[str, Any], base: Path, where: str) -> CondaRequirements:
    """Read a conda file.

    Args:
        source: Its path, relative to ``base``, or its content.
        base: Folder of the definition that names it.
        where: The step that needs it, for messages.

    Raises:
        PipelineError: it cannot be read, or is not a conda file.
    """
    if isinstance(source, str):
        file = (base / source.removeprefix("file:")).resolve()
        what, base = f"{where}: {file}", file.parent
        content: Mapping[str, Any] = read_mapping(
            file, f"{where}: the conda file {file}", CONDA_EXAMPLE, may_be_empty=True
        )
    else:
        what, content = f"{where}: its conda_file", source
    listed = content.get("dependencies") or []
    if not isinstance(listed, list):
        raise PipelineError(f"{what}: dependencies is not a list", "write `- NAME=VERSION` lines below them")
    lines: list[str] = []
    of_conda: dict[str, str] = {}
    notes: list[str] = []
    for item in listed:
        if isinstance(item, Mapping):
            lines += _pip_lines(item, base, what)
            continue
        package = conda_package(str(item))
        if package is None:
            raise PipelineError(f"{what}: {item!r} is not a dependency", "write NAME, NAME=VERSION or NAME>=VERSION")
        notes += [package.note] if package.note else []
        if package.name == "python" and not _is_this_python(package.version):
            ours = f"{sys.version_info.major}.{sys.version_info.minor}"
            notes.append(f"it asks for python{package.version}, but steps run in Python {ours} here")
        if package.requirement:
            lines.append(package.requirement)
            of_conda[package.name] = package.requirement
    return CondaRequirements(str(content.get("name") or ""), tuple(lines), of_conda, base, tuple(dict.fromkeys(notes)))


def _pip_lines(item: Mapping[str, Any], base: Path, what: str) -> Iterator[str]:
    listed = item.get("pip")
    if list(item) != ["pip"] or not isinstance(listed, list):
        raise PipelineError(
            f"{what}: {dict(item)!r} is not a dependency", "write `- pip:` with a list of packages below it"
        )
    for entry in listed:
        line = re.sub(r"(^|\s)#.*", "", str(entry)).strip()
        option = _FILE_OPTION.fullmatch(line)
        if option:
            file = (base / option[2].strip()).resolve()
            if not file.is_file():
                raise PipelineError(f"{what}: {line!r}: {file} does not exist", "check the path")
            line = f"{option[1]} {file}"
        if line:
            yield line


def _is_this_python(version: str) -> bool:
    """Return whether some patch release of this Python satisfies a version in pip's syntax."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        wanted = SpecifierSet(version)
    except InvalidSpecifier:
        return True
    series = f"{sys.version_info.major}.{sys.version_info.minor}"
    return any(wanted.contains(f"{series}.{patch}") for patch in range(_MOST_PATCHES))


def _file_content(file: Path, base: Path) -> Iterator[str]:
    """Yield the lines of a requirements file, and of those that it names."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PipelineError(f"{file} cannot be read: {error.strerror}", "check its permissions") from error
    for line in (line.strip() for line in text.splitlines()):
        option = _FILE_OPTION.fullmatch(line)
        if option and (file.parent / option[2].strip()).is_file():
            yield from _file_content(file.parent / option[2].strip(), base)
        elif line and not line.startswith("#"):
            yield line
            yield from _folder_content(_EDITABLE.sub("", line), base)


def _folder_content(text: str, base: Path) -> Iterator[str]:
    """Yield the hash of a project or archive on this machine that a line installs."""
    path = base / text.partition("[")[0].removeprefix("file:")
    if not text.startswith((".", "/", "file:")) or not path.exists():
        return
    with Fingerprints() as fingerprints:
        yield fingerprints.of_files(path, snapshot_files(path)) if path.is_dir() else fingerprints.of(path)
