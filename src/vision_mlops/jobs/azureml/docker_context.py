"""Makes Docker contexts small enough for Azure ML, which documents a limit of 100 files and 1 MB for each.

A context with more files is sent with its largest folders packed: a folder ``src`` becomes the archive ``src.tar.gz``. In a
Dockerfile, ``ADD src* src/`` works with both the folder and the archive, because ADD unpacks archives.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vision_mlops.core.errors import PipelineError
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.core.text import counted

MAX_FILES = 100
MAX_BYTES = 1_000_000


@contextmanager
def small_context(folder: Path, dockerfile: str) -> Iterator[Path]:
    """Yield a context that Azure ML accepts: the folder itself if it is small enough, or else a packed copy of it.

    Args:
        folder: The context, without what its ``.amlignore`` excludes.
        dockerfile: Path of the Dockerfile in it.

    Raises:
        PipelineError: it is too large even when packed, or the Dockerfile does not unpack a packed folder.
    """
    names = snapshot_files(folder)
    if len(names) <= MAX_FILES and _size(folder, names) <= MAX_BYTES:
        yield folder
        return
    with TemporaryDirectory(prefix="mlops-") as temporary:
        target = Path(temporary) / "context"
        packed: list[str] = []
        by_folder = Counter(name.split("/")[0] for name in names if "/" in name and name != dockerfile)
        for top, _ in by_folder.most_common():
            if len(names) <= MAX_FILES:
                break
            inside = [name for name in names if name.startswith(f"{top}/") and name != dockerfile]
            _pack(folder, top, inside, target / f"{top}.tar.gz")
            packed.append(top)
            names = [name for name in names if name not in inside]
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
        _check(target, dockerfile, packed, folder)
        yield target


def _check(context: Path, dockerfile: str, packed: list[str], origin: Path) -> None:
    text = (context / dockerfile).read_text(encoding="utf-8")
    for top in packed:
        if f"ADD {top}* {top}/" not in text and _takes(text, top):
            raise PipelineError(
                f"the Docker context {origin} has more than {MAX_FILES} files, which Azure ML does not accept, and"
                f" {dockerfile} does not unpack the folder {top!r}",
                f"write `ADD {top}* {top}/` instead of COPY, or exclude files with .amlignore",
            )
    files = [path for path in context.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if len(files) > MAX_FILES or size > MAX_BYTES:
        raise PipelineError(
            f"the Docker context {origin} has {counted(len(files), 'file')} of {size / 1e6:.1f} MB, packed; Azure ML accepts"
            f" at most {MAX_FILES} files of {MAX_BYTES / 1e6:.0f} MB",
            "exclude files with .amlignore",
        )


def _takes(dockerfile: str, top: str) -> bool:
    """Return whether a Dockerfile copies a folder of its context, or the whole context."""
    copies = re.findall(r"^\s*(?:COPY|ADD)\s+(?!.*--from=)(.+?)\s+\S+\s*$", dockerfile, re.MULTILINE | re.IGNORECASE)
    return any(
        source.removeprefix("./").split("/")[0] in ("", ".", "*", top, f"{top}*")
        for line in copies
        for source in line.split()
    )


def _pack(folder: Path, top: str, names: list[str], archive: Path) -> None:
    """Write an archive that depends only on the files, not on their dates, owners or location."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            entry = tarfile.TarInfo(name.removeprefix(f"{top}/"))
            entry.size, entry.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as stream:
                tar.addfile(entry, stream)


def _size(folder: Path, names: list[str]) -> int:
    return sum((folder / name).stat().st_size for name in names if (folder / name).is_file())
