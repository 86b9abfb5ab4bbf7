"""Files of a folder that are left out by its ignore files.

What ``.amlignore`` (else ``.gitignore``) leaves out is not sent along, as on Azure ML. Git reads a ``.gitignore`` in each
folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pathspec

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.folder_walk import files_once

IGNORE_FILES = (".amlignore", ".gitignore")
NEVER = {".git", "__pycache__"}


def snapshot_files(folder: Path) -> list[str]:
    """List the files of a code folder that are uploaded, by relative name, sorted. Links are followed, broken ones skipped.

    Raises:
        PipelineError: the ignore file cannot be parsed, or a folder cannot be read.
    """
    spec = _ignored(folder)
    home = paths.home()  # the results of jobs are not code, wherever they are

    def enters(below: Path) -> bool:
        known = below.name in NEVER or (folder / below).resolve() == home
        return not known and not spec.match_file(f"{below.as_posix()}/")

    try:
        return sorted(name for name in files_once(folder, enters) if not spec.match_file(name))
    except OSError as error:
        raise PipelineError(f"{error.filename} cannot be read: {error.strerror}", "check its permissions") from error


def is_left_out(folder: Path, name: str) -> bool:
    """Return whether a file of a code folder, by its relative name with slashes, is not uploaded.

    Raises:
        PipelineError: the ignore file cannot be parsed.
    """
    return _ignored(folder).match_file(name)


class GitIgnored:
    """What git ignores in a folder, by the ``.gitignore`` of it and of the folders in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._specs: dict[str, pathspec.GitIgnoreSpec] = {}

    def leaves_out(self, name: str) -> bool:
        """Return whether a file is ignored, by its name relative to the folder, with slashes."""
        parts, left_out = name.split("/"), False
        for depth in range(len(parts)):
            # The file in the deepest folder has the last word.
            decided = self._spec("/".join(parts[:depth])).check_file("/".join(parts[depth:])).include
            left_out = left_out if decided is None else decided
        return left_out

    def _spec(self, below: str) -> pathspec.GitIgnoreSpec:
        if below not in self._specs:
            file = self._folder / below / ".gitignore"
            text = file.read_text(encoding="utf-8", errors="replace") if os.access(file, os.R_OK) else ""
            self._specs[below] = pathspec.GitIgnoreSpec.from_lines(filter(_is_pattern, text.splitlines()))
        return self._specs[below]


def _is_pattern(line: str) -> bool:
    """Return whether a line is a valid pattern; git ignores the others."""
    try:
        pathspec.GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _ignored(folder: Path) -> pathspec.GitIgnoreSpec:
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            try:
                return pathspec.GitIgnoreSpec.from_lines((folder / name).read_text(encoding="utf-8").splitlines())
            except ValueError as error:  # a pattern without an end, or no UTF-8
                raise PipelineError(f"{folder / name} cannot be parsed: {error}", "fix the pattern") from error
    return pathspec.GitIgnoreSpec.from_lines([])
