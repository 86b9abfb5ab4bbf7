"""Environments of the systems: one venv for each, from its pinned requirements, created once and used again.

They lie under ``outputs/cache/bench/NAME``. An environment whose requirements have changed since is made anew, and in that
of our server the package is installed again whenever its source has changed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vision_mlops.core import paths

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
OURS = "ours"
_INSTALLERS = re.compile(r"(pip|setuptools|wheel)(-[\d.]+\.dist-info)?|_distutils_hack|distutils-precedence\.pth")
_PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "src")


@dataclass(frozen=True)
class Environment:
    """A finished venv. Sizes are in MB (10^6 bytes) of disk, with and without pip and setuptools."""

    name: str
    folder: Path
    megabytes: float
    megabytes_without_installers: float

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def cache() -> Path:
    """Return the folder of everything that the benchmark keeps."""
    return paths.home() / "cache" / "bench"


def requirements(name: str) -> Path:
    """Return the pinned requirements of a system."""
    return REPOSITORY / "requirements" / "serve.txt" if name == OURS else HERE / name / "requirements.txt"


def pins(name: str) -> list[str]:
    """Return ``name==version`` of each pinned package, those of included files first."""
    found: list[str] = []
    for line in requirements(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            included = requirements(name).with_name(line.removeprefix("-r ").strip())
            found += [text for text in included.read_text(encoding="utf-8").splitlines() if text.strip()]
        elif line.strip():
            found.append(line.strip())
    return found


def prepare(name: str) -> Environment:
    """Return the environment of a system, created if it is missing.

    Raises:
        SystemExit: pip could not install it; says how to see why.
    """
    folder = cache() / name
    python = folder / "bin" / "python"
    stamp, wanted = folder / ".requirements", "\n".join([sys.version, *pins(name)])
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"installing the environment of {name}", file=sys.stderr, flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], name)
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements(name))], name)
        stamp.write_text(wanted, encoding="utf-8")
    if name == OURS:
        _install_package(folder, python)
    return Environment(name, folder, disk_megabytes(folder), disk_megabytes(folder, without_installers=True))


def _install_package(folder: Path, python: Path) -> None:
    stamp, wanted = folder / ".package", _source_hash()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        # From a copy: building in place would leave a folder build/, and include what an earlier build left in it.
        for part in _PACKAGE:
            source, copy = REPOSITORY / part, Path(name, part)
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copyfile(source, copy)
        words = ["install", "--quiet", "--no-deps", "--force-reinstall", name]
        _run([str(python), "-m", "pip", *words], OURS)
    stamp.write_text(wanted, encoding="utf-8")


def _source_hash() -> str:
    digest = hashlib.sha256((REPOSITORY / "pyproject.toml").read_bytes())
    for path in sorted((REPOSITORY / "src").rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and ".egg-info" not in path.as_posix():
            digest.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"the environment of {name}: {' '.join(command)} failed:\n{(done.stderr or done.stdout)[-3000:]}"
        )


def disk_megabytes(folder: Path, *, without_installers: bool = False) -> float:
    """Return the disk space of a venv in MB (10^6 bytes), as ``du`` counts it; links to the interpreter count as links."""
    total = 0
    pending = [folder]
    while pending:
        for path in pending.pop().iterdir():
            if without_installers and _INSTALLERS.fullmatch(path.name) and path.parent.name == "site-packages":
                continue
            total += path.lstat().st_blocks * 512
            if path.is_dir() and not path.is_symlink():
                pending.append(path)
    return total / 1e6
