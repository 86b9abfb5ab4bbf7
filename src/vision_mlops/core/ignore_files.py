"""Files of a folder that are sent along: what ``.amlignore`` (else ``.gitignore``) leaves out stays out, as on Azure ML."""

from __future__ import annotations

import os
from pathlib import Path

import pathspec

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError

IGNORE_FILES = (".amlignore", ".gitignore")
NEVER = {".git", "__pycache__"}


def snapshot_files(folder: Path) -> list[str]:
    """Relative names of the files of a code folder that are sent along, sorted. Links are followed, broken ones left out.

    Raises:
        PipelineError: the ignore file cannot be understood, or a folder not be read.
    """
    spec = _ignored(folder)
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    home = paths.home()  # the results of jobs are no code, wherever they lie
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        below, facts = Path(root).relative_to(folder), Path(root).stat()
        if (facts.st_dev, facts.st_ino) in seen:  # a link to a folder above itself
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(
            name
            for name in folders
            if name not in NEVER
            and Path(root, name).resolve() != home
            and not spec.match_file(f"{(below / name).as_posix()}/")
        )
        found += [name for name in ((below / item).as_posix() for item in names) if not spec.match_file(name)]
    return sorted(name for name in found if (folder / name).is_file())


def is_left_out(folder: Path, name: str) -> bool:
    """Whether a file of a code folder, by its relative name with slashes, is not sent along.

    Raises:
        PipelineError: the ignore file cannot be understood.
    """
    return _ignored(folder).match_file(name)


def _ignored(folder: Path) -> pathspec.GitIgnoreSpec:
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            try:
                return pathspec.GitIgnoreSpec.from_lines((folder / name).read_text(encoding="utf-8").splitlines())
            except ValueError as error:  # a pattern without an end, or no UTF-8
                raise PipelineError(f"{folder / name} cannot be understood: {error}", "mend the pattern") from error
    return pathspec.GitIgnoreSpec.from_lines([])


def _refuse(error: OSError) -> None:
    raise PipelineError(f"{error.filename} cannot be read: {error.strerror}", "check its permissions") from error
