"""Virtual environments with the packages of a conda file, kept by content below the home folder.

``python -m ... virtual_environment FILE`` builds the one that a file describes. It runs as a process of the step that needs
it, so that its log, Ctrl-C and the end of the job work as they do for the step.

A virtual environment is a layer over this Python: its packages come first, so the versions that a conda file names win.
Packages that this Python has in a suitable version are not installed again, and its other packages are available, too, such
as MLflow and the modules that run mini-batches.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.errors import JobError, MlopsError
from vision_mlops.core.files import atomic_write, remove_path
from vision_mlops.core.locks import is_taken, locked, take
from vision_mlops.jobs.local.environments.environment_contract import StepEnvironment, this_path
from vision_mlops.jobs.local.environments.pip_client import install_command, package_at_fault, pip_variables

FAILURE = "environment-error.txt"
"""File beside the order that says why a build failed, in one line."""
_READY = "environment.json"
_LAYER = "zz-of-the-tool.pth"  # after all others, so that what is installed here comes first
_LONGEST_SECONDS = 7200.0  # while another job builds the same one
_MOST_LINES = 2000
_SCRIPT = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys
from {module} import {top}
sys.exit({call}())
"""


def environments_folder() -> Path:
    """Return the folder of all virtual environments."""
    return paths.home() / "cache" / "environments"


class VirtualEnvironment(StepEnvironment):
    """A virtual environment with the packages of a conda file, built or not.

    Args:
        content: Hash of what its packages depend on, wherever those files are.
        lines: Lines of the requirements file for pip.
        base: Folder that relative paths in them start from.
        folder: Its folder, for the process that builds it; otherwise derived from the content and the packages of this
            Python.
    """

    def __init__(self, content: str, lines: tuple[str, ...], base: Path, folder: Path | None = None) -> None:
        self.content, self.lines, self.base = content, lines, base
        self.folder = folder or environments_folder() / _folder_name(content)
        self.label, self.python = str(self.folder), str(self.folder / "bin" / "python")

    def variables(self) -> dict[str, str]:
        """Return the variables that an activated environment sets."""
        programs = os.pathsep.join([str(self.folder / "bin"), this_path()])
        return {"PATH": programs, "VIRTUAL_ENV": self.label}

    def path(self) -> None:
        """Return None: which programs pip will install is unknown."""

    def preparation(self, folder: Path) -> list[str] | None:
        """Return the command that builds it; None if it is built, which marks it as used."""
        if not self.ready:
            return self.order(folder / "environment-order.json")
        os.utime(self.folder / _READY)  # :func:`unused_environments` reads that
        return None

    @property
    def ready(self) -> bool:
        """Whether it was built completely, and its Python exists."""
        return (self.folder / _READY).is_file() and Path(self.python).exists()

    def installed(self) -> list[str] | None:
        """Return the lines that it was built with; None if it is not built."""
        try:
            return list(json.loads((self.folder / _READY).read_text(encoding="utf-8"))["requirements"])
        except (OSError, ValueError, KeyError):
            return None

    def order(self, file: Path) -> list[str]:
        """Write down what to build; return the command that builds it."""
        content = {"content": self.content, "lines": self.lines, "base": str(self.base), "place": str(self.folder)}
        atomic_write(file, json.dumps(content, indent=2) + "\n")
        return [sys.executable, "-m", __name__, str(file)]

    def build(self, say: Callable[[str], None]) -> None:
        """Build it, unless it exists. Of several processes one builds while the others wait; a failed build leaves nothing.

        Args:
            say: Called with what happens, line by line.

        Raises:
            JobError: pip could not install it; names the package that failed.
        """
        folder = self.folder
        if _is_locked(folder):
            say(f"another job is building the environment {folder}; waiting for it")
        with _locked(folder):
            if self.ready:
                return
            remove_path(folder)  # left by a build that was killed
            say(f"building the environment {folder}")
            try:
                _create(folder)
                self._install(folder, say)
                facts = {"requirements": list(self.lines), "python": sys.version.split()[0], "content": self.content}
                atomic_write(folder / _READY, json.dumps(facts, indent=2) + "\n")
            except BaseException:
                remove_path(folder)
                raise
            say(f"the environment is ready: {folder}")

    def _install(self, folder: Path, say: Callable[[str], None]) -> None:
        requirements = folder / "requirements.txt"
        atomic_write(requirements, "".join(f"{line}\n" for line in self.lines))
        said: list[str] = []
        with subprocess.Popen(
            install_command(self.python, str(requirements)), cwd=self.base,
            env=pip_variables(os.environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if not line.startswith("Requirement already satisfied"):
                    say(line.rstrip("\n"))
        if process.returncode:
            fault = package_at_fault("".join(said[-_MOST_LINES:]))
            what = f"the package {fault!r} cannot be installed" if fault else f"pip ended with {process.returncode}"
            raise JobError(
                f"the environment cannot be built: {what}",
                "correct the conda file, or run the job in this Python with --environment host",
            )


def unused_environments(before: float) -> list[Path]:
    """Return the folders of virtual environments that are not being built and were last used before a time."""
    root = environments_folder()
    folders = (
        [item for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")] if root.is_dir() else []
    )
    return sorted(folder for folder in folders if _last_used(folder) <= before and not _is_locked(folder))


def remove_environment(folder: Path) -> None:
    """Remove a virtual environment, unless a process has begun to build it."""
    lock = take(_lock_of(folder))
    if lock is not None:
        with lock:
            (folder / _READY).unlink(missing_ok=True)  # first, so that a half removed one does not count
            remove_path(folder)
            _lock_of(folder).unlink(missing_ok=True)


def _last_used(folder: Path) -> float:
    mark = folder / _READY
    return (mark if mark.exists() else folder).stat().st_mtime


def _lock_of(folder: Path) -> Path:
    return folder.parent / ".locks" / folder.name


def _is_locked(folder: Path) -> bool:
    return is_taken(_lock_of(folder))


def _locked(folder: Path) -> AbstractContextManager[None]:
    refusal = JobError(f"another job has been building the environment {folder} for two hours", "cancel it or wait")
    return locked(_lock_of(folder), refusal, wait=_LONGEST_SECONDS)


def _create(folder: Path) -> None:
    """Create an environment over this Python, whose packages come last on its path and whose commands run in it."""
    try:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        raise JobError(
            f"the environment {folder} cannot be created: {error}", "check the path and free space"
        ) from error
    major, minor = sys.version_info[:2]
    packages = folder / "lib" / f"python{major}.{minor}" / "site-packages"
    lines = [f"import site; site.addsitedir({path!r})\n" for path in _paths_beneath()]
    (packages / _LAYER).write_text("".join(lines), encoding="utf-8")
    for command in entry_points(group="console_scripts"):
        script = folder / "bin" / command.name
        if script.exists() or not re.fullmatch(r"[\w.-]+", command.name) or ":" not in command.value:
            continue
        text = _SCRIPT.format(
            python=folder / "bin" / "python",
            module=command.module,
            top=command.attr.partition(".")[0],
            call=command.attr,
        )
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)


def _paths_beneath() -> Sequence[str]:
    """Return the folders of packages of this Python."""
    return [path for path in dict.fromkeys(sys.path) if Path(path).name in ("site-packages", "dist-packages")]


def _folder_name(content: str) -> str:
    """Return a hash of the content and of the packages of this Python, by name and version."""
    beneath = sorted(item.name for path in _paths_beneath() for item in Path(path).glob("*.dist-info"))
    return hashlib.sha256("\n".join([content, sys.version, sys.prefix, *beneath]).encode()).hexdigest()[:24]


def main(file: Path) -> int:
    """Build what a file describes; return the exit code."""
    order = json.loads(file.read_text(encoding="utf-8"))
    base, place = Path(order["base"]), Path(order["place"])
    try:
        VirtualEnvironment(order["content"], tuple(order["lines"]), base, place).build(_say)
    except MlopsError as error:
        atomic_write(file.with_name(FAILURE), f"{error.message}\n{error.hint}\n")
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the log of the step


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
