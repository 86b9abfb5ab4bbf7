"""The asset store of this machine: what ``azureml:NAME:VERSION`` means in a local run. A version never changes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops import paths
from vision_mlops.exceptions import PipelineError
from vision_mlops.pipeline.findings import nearest
from vision_mlops.runner.locks import take

KINDS = ("components", "data", "environments", "models")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")
_FACTS = "asset.json"
_ADD = ("add one with `mlops assets create FILE`", "register one: `mlops run`, `mlops models register`")
_LONGEST_SECONDS = 300.0  # another process copies a large version


@dataclass(frozen=True)
class Asset:
    """One version. ``path`` is its content: a file or folder, of a component its definition."""

    kind: str
    name: str
    version: str
    type: str
    path: Path
    created: str
    description: str = ""

    @property
    def reference(self) -> str:
        """How a definition names it."""
        return f"azureml:{self.name}:{self.version}"


class AssetStore:
    """Versions below ``assets/KIND/NAME/VERSION`` of the home folder."""

    def __init__(self) -> None:
        self._root = paths.home() / "assets"

    def find(self, kind: str, reference: str, what: str = "") -> Asset:
        """One version, from ``NAME:VERSION``, ``NAME@latest`` or ``NAME`` (the latest), with or without ``azureml:``.

        Raises:
            PipelineError: there is no such version.
        """
        plain = reference.removeprefix("azureml:")
        name, _, version = plain.partition("@") if "@" in plain else plain.partition(":")
        before = f"{what}: " if what else ""
        versions = {asset.version: asset for asset in self.versions(kind, name)}
        if not versions:
            hint = nearest(name, [asset.name for asset in self.all(kind)], _ADD[kind == "models"])
            raise PipelineError(f"{before}there are no {kind} named {name!r} on this machine", hint)
        if version in ("", "latest"):
            return max(versions.values(), key=lambda asset: (asset.created, _order(asset.version)))
        if version not in versions:
            message = f"{before}{name!r} has no version {version!r} on this machine"
            raise PipelineError(message, nearest(version, versions))
        return versions[version]

    def versions(self, kind: str, name: str) -> list[Asset]:
        """All versions of an asset, lowest first; empty where there are none."""
        folder = self._root / kind / name if _NAME.fullmatch(name) else None
        found = [self._read(kind, path) for path in folder.glob(f"*/{_FACTS}")] if folder else []
        return sorted(found, key=lambda asset: _order(asset.version))

    def all(self, kind: str) -> list[Asset]:
        """All versions of all assets of a kind."""
        names = sorted(path.name for path in (self._root / kind).glob("*") if path.is_dir())
        return [asset for name in names for asset in self.versions(kind, name)]

    def add(
        self,
        kind: str,
        name: str,
        version: str | None,
        type_: str,
        content: Path | Callable[[Path], Path],
        *,
        description: str = "",
        same: Callable[[Asset], bool] | None = None,
    ) -> Asset:
        """Copy content in as a version; the next whole number where no version is given.

        Args:
            kind: One of :data:`KINDS`.
            name: Letters, digits, ``_``, ``-`` and ``.``.
            version: Any text of that form; must not exist.
            type_: For instance ``uri_folder``.
            content: File or folder to copy, or a function that writes into a folder and returns the content's path.
            description: For people.
            same: Says of an existing version that it is what is to be added: then that one is given, and nothing added.

        Raises:
            PipelineError: the name or version is malformed, or exists.
        """
        lock = take(self._root / ".lock", wait=_LONGEST_SECONDS)
        if lock is None:
            raise PipelineError(f"{self._root} is in use by another process", "try again")
        with lock:
            there = self.versions(kind, name)
            known = next((asset for asset in there if same and version in (None, asset.version) and same(asset)), None)
            return known or self._add(kind, name, version, type_, content, description, there)

    def _add(
        self,
        kind: str,
        name: str,
        version: str | None,
        type_: str,
        content: Path | Callable[[Path], Path],
        description: str,
        there: list[Asset],
    ) -> Asset:
        taken = [asset.version for asset in there]
        version = version or str(max([int(item) for item in taken if item.isdigit()], default=0) + 1)
        for text, noun in ((name, "name"), (version, "version")):
            if not _NAME.fullmatch(text):
                raise PipelineError(f"{text!r} cannot be the {noun} of an asset", "use letters, digits, _, - and .")
        if version in taken:
            message = f"{name!r} has a version {version!r} already, and versions do not change"
            raise PipelineError(message, f"use another one; there are: {', '.join(taken)}")
        target = self._root / kind / name / version
        with paths.atomic_folder(target) as folder:
            if callable(content):
                path = content(folder).relative_to(folder)
            else:
                path = Path("content") / content.name
                (folder / "content").mkdir()
                copy = shutil.copytree if content.is_dir() else shutil.copy2
                copy(content, folder / path)
            facts = {"type": type_, "path": path.as_posix(), "description": description}
            facts["created"] = datetime.now(UTC).isoformat(timespec="milliseconds")
            (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return self._read(kind, target / _FACTS)

    def _read(self, kind: str, path: Path) -> Asset:
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            content = path.parent / facts["path"]
            return Asset(
                kind, path.parents[1].name, path.parent.name, facts["type"], content, facts["created"],
                facts.get("description", ""),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PipelineError(f"{path} cannot be read: {error}", f"remove the folder {path.parent}") from error


def _order(version: str) -> tuple[int, int, str]:
    """Numbers by size and before text, so that 10 comes after 9."""
    return (0, int(version), "") if version.isdigit() else (1, 0, version)
