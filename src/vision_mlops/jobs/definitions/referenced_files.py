"""Checks that the files that a definition refers to exist and are within its project."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as AnyMapping
from functools import partial
from pathlib import Path

from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions.definition import STEP_COMPONENTS, Definition, inline, load, parse
from vision_mlops.jobs.definitions.findings import Findings
from vision_mlops.jobs.definitions.models.ports import JobInput
from vision_mlops.jobs.definitions.overrides import Change
from vision_mlops.jobs.definitions.yaml_source import Mapping, read

_MARKERS = (".git", ".amlignore", "pyproject.toml")
_REMOTE = re.compile(r"(azureml|https?|wasbs?|abfss?|git\+\w+|git)://?|azureml:", re.IGNORECASE)
_REGISTERED = re.compile(r"azureml:(//.+|/.+|[\w.-]+([:@][\w.-]+)?)")


def is_file(reference: str) -> bool:
    """Return whether a reference names a YAML file, rather than something that is registered."""
    return reference.startswith("file:") or reference.lower().endswith((".yml", ".yaml"))


def project_root(file: Path) -> Path:
    """Return the nearest folder above a file that looks like the root of a project, or else the folder of the file.

    For definitions that are installed with a package, it is the nearest folder that belongs to the package.
    """
    return _marked_root(file) or file.resolve().parent


def _marked_root(file: Path) -> Path | None:
    """Do the same, but return None if no folder looks like the root of a project or belongs to a package."""
    folder = file.resolve().parent
    above = (folder, *folder.parents)
    projects = (up for up in above if any((up / name).exists() for name in _MARKERS))
    return next(projects, None) or next((up for up in above if (up / "__init__.py").is_file()), None)


class Files:
    """Follows the paths in definitions; each file is read once. ``used`` collects all that exist."""

    def __init__(self, root: Path, findings: Findings, registered: Callable[[str], Path | None] | None = None) -> None:
        self._root = root
        self._findings = findings
        self._registered = registered
        self._read: dict[tuple[Path, tuple[str, ...]], Definition | None] = {}
        self.used: set[Path] = set()

    def local(self, text: str, owner: Definition, line: int, what: str, *, folder: bool = False) -> Path | None:
        """Return the existing local path that a text names; None, with an error, if it is missing.

        Azure accepts paths that are absolute or lead out of the project, so there is only a warning: others may not have
        them. Text that names something remote or contains an expression gives None without an error.
        """
        if _REMOTE.match(text) or "${{" in text:
            return None
        relative = text.removeprefix("file:")
        path = owner.file.parent / relative
        if Path(relative).is_absolute():
            message = f"{what} {text!r} is an absolute path"
            owner.report_line(line, "path", message, "write it relative to the folder of this file")
        try:
            whole, exists = path.resolve(), path.exists()
            # A registered component is outside of the project, in one of its own.
            own = _marked_root(owner.file)
            inside = own is None or whole.is_relative_to(self._root) or whole.is_relative_to(own)
        except (OSError, ValueError, RuntimeError):  # a name that is too long, a zero byte, a loop of links
            inside, exists = True, False
        if not inside and not Path(relative).is_absolute():
            message = f"{what} {text!r} is outside of the project {self._root.name}"
            owner.report_line(line, "path", message, "move it into the project, so that others have it")
        if not exists or (folder and not path.is_dir()):
            state = "is not a folder" if exists else "does not exist"
            owner.report_line(line, f"{what}-missing", f"{what} {text!r} {state}", _neighbours(path))
            return None
        self.used.add(whole)
        return path

    def check_data(self, owner: Definition, inputs: AnyMapping[str, object], *base: str) -> None:
        """Warn of local data that does not exist: it may be made later, but nothing runs without it."""
        for name, item in inputs.items():
            text = item.path if isinstance(item, JobInput) else None
            if text is None or _REMOTE.match(text) or "${{" in text:
                continue
            try:
                exists = (owner.file.parent / text.removeprefix("file:")).expanduser().exists()
            except (OSError, ValueError, RuntimeError):  # a name that is too long, a zero byte, ~somebody
                exists = False
            if not exists:
                message = f"input {name!r}: {text[:100]!r} does not exist"
                hint = "check the path, which is relative to the folder of this file, or make the data first"
                owner.report("input-missing", message, hint, *base, "inputs", name)

    def component(
        self,
        value: str | dict[str, object],
        owner: Definition,
        path: tuple[str, ...],
        among: tuple[str, ...] = STEP_COMPONENTS,
    ) -> Definition | None:
        """Read what a ``component``, ``trial`` or ``create_job`` names or contains; return None if it is remote or wrong."""
        line, what = owner.line(*path), "job" if path[-1] in ("create_job", "job") else "component"
        if not isinstance(value, str):
            node = owner.node
            for part in path:
                node = node[part]
            if among == ("trial",) or ("trial" in among and "inputs" not in node):
                return parse("trial", node, owner.file, self._findings)
            return inline(node, owner.file, self._findings, among)
        if not is_file(value):
            if not _REGISTERED.fullmatch(value):
                message = f"{value!r} is neither a file nor a registered {what}"
                hint = f"write ./{what}.yml, or azureml:NAME:VERSION"
                owner.report_line(line, f"{what}-missing", message, hint)
                return None
            file = self._registered(value) if self._registered is not None else None
            if file is None and self._registered is not None:
                message = f"no {what} {value!r} is registered on this machine"
                owner.report_line(line, f"{what}-missing", message, "add one with `mlops assets create FILE`")
        else:
            file = self.local(value, owner, line, what)
        return self.read(file, among) if file is not None else None

    def read(self, file: Path, among: tuple[str, ...], changes: Iterable[Change] = ()) -> Definition | None:
        """Read a file, or return what was read before."""
        key = file.resolve(), among
        if key not in self._read:
            self._read[key] = load(file, self._findings, among, changes, partial(self._content, file.parent))
        return self._read[key]

    def _content(self, folder: Path, reference: str) -> Mapping | None:
        """Read a component that a file in a folder names; its mistakes are reported when it is read as a component."""
        if is_file(reference):
            file: Path | None = folder / reference.removeprefix("file:")
        else:
            file = self._registered(reference) if self._registered is not None else None
        return read(file, Findings()) if file is not None else None

    def check_code(self, owner: Definition, code: str | None, *path: str) -> Path | None:
        """Check the code; returns its local folder or file."""
        return self.local(code, owner, owner.line(*path), "code") if code else None

    def check_environment(self, owner: Definition, value: object, node: object, *path: str) -> None:
        """Check the files of an environment, inline or referenced."""
        line = owner.line(*path)
        if isinstance(value, str):
            if is_file(value):
                file = self.local(value, owner, line, "environment")
                found = self.read(file, ("environment",)) if file else None
                if found:
                    self.check_environment(found, found.model, found.node)
            elif not _REGISTERED.fullmatch(value) and "${{" not in value:
                message = f"environment {value!r} is not a reference"
                hint = "write azureml:NAME:VERSION, azureml:NAME@latest, or a mapping with image"
                owner.report_line(line, "environment-missing", message, hint)
        elif isinstance(node, Mapping):
            conda, build = node.get("conda_file"), node.get("build")
            if isinstance(conda, str):
                self.local(conda, owner, owner.line(*path, "conda_file"), "environment")
            if isinstance(build, Mapping):
                at = owner.line(*path, "build", "path")
                context = self.local(str(build["path"]), owner, at, "environment", folder=True)
                if context is not None:
                    name = build.get("dockerfile_path") or "Dockerfile"
                    self.local(f"{build['path']}/{name}", owner, at, "environment")


def _neighbours(path: Path) -> str:
    try:
        names = sorted(item.name for item in path.parent.iterdir() if not item.name.startswith("."))[:20]
    except OSError:
        return f"the folder {path.parent.name!r} does not exist, either"
    return nearest(path.name, names, "the folder is empty")
