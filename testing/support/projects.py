"""Projects that are made from the template of this repository, and the repository as others get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from vision_mlops.project.new_project import ProjectRequest, make_project

ROOT = Path(__file__).parents[2]


def project(target: Path, **answers: Any) -> Path:
    """Make a project with these answers; its name is that of the folder."""
    make_project(ProjectRequest(target, {"name": target.name, **answers}))
    return target


def sources(target: Path) -> Path:
    """A copy of the repository: the files that git knows, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    return target


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, as somebody who is nobody in particular."""
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Commit all files of a folder; it becomes a repository where it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def environment_of(folder: Path, *, tools: tuple[str, ...] = ()) -> Path:
    """A virtual environment that finds the packages of this one, so that pip installs nothing but what is new.

    Args:
        folder: To make.
        tools: Programs of this environment that are to be in it.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = (folder / "lib").glob("python3*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "packages_of_the_tests.pth").write_text("".join(f"{path}\n" for path in others), encoding="utf-8")
    for name in tools:
        (folder / "bin" / name).symlink_to(Path(sys.executable).with_name(name))
    return folder


def plain_environment() -> dict[str, str]:
    """Variables of this process without those of this project, of git, and of Python's path."""
    left_out = ("AZURE", "MLOPS", "MLFLOW", "GIT_", "PYTHON", "VIRTUAL_ENV", "COV_", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
