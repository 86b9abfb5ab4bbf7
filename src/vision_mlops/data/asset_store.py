"""The asset store of this machine: what ``azureml:NAME:VERSION`` refers to in a local run. A version never changes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError
from vision_mlops.core.files import atomic_folder, remove_path
from vision_mlops.core.locks import locked
from vision_mlops.core.text import nearest

KINDS = ("components", "data", "environments", "models")
FINGERPRINT = "fingerprint"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}", re.ASCII)
_FACTS = "asset.json"
_ADD = {
    "data": "add one with `mlops data register FOLDER --name NAME`, or `mlops assets create FILE`",
    "models": "register one: `mlops run`, `mlops models register`",
}
_LONGEST_SECONDS = 300.0  # another process copies a large version


@dataclass(frozen=True)
class Asset:
    """One version of an asset, here or on Azure ML.

    ``path`` is where its content is: a file or folder of this machine (of a component, its definition), or an address in
    Azure storage.
    """

    kind: str
    name: str
    version: str
    type: str
    path: str
    created: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """How a definition names it."""
        return f"azureml:{self.name}:{self.version}"

    @property
    def content(self) -> Path:
        """The file or folder with its content, if it is on this machine."""
        return Path(self.path)

    @property
    def fingerprint(self) -> str:
        """Identifies the content of data; empty if `mlops` did not register it."""
        return self.properties.get(FINGERPRINT, "")

    def number(self, key: str) -> int | None:
        """Return a property that is a whole number; None if it is not."""
        text = self.properties.get(key, "")
        return int(text) if text.isdecimal() else None

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images by split and class; empty if it is not known."""
        try:
            found = json.loads(self.properties.get("counts", "{}"))
            return {split: {label: int(n) for label, n in labels.items()} for split, labels in found.items()}
        except (ValueError, AttributeError, TypeError):  # another tool's property of that name
            return {}

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON; what the properties say becomes values of their own."""
        facts = {key: value for key, value in asdict(self).items() if key != "kind"}
        known = {key: self.number(key) for key in ("images", "files", "bytes")}
        texts = {key: self.properties.get(key, "") for key in (FINGERPRINT, "source", "git_commit", "created_by")}
        return {"reference": self.reference, **facts, **texts, **known, "counts": self.counts}


class AssetStore:
    """Versions below ``assets/KIND/NAME/VERSION`` of the home folder."""

    def __init__(self) -> None:
        self._root = paths.home() / "assets"

    def find(self, kind: str, reference: str, what: str = "") -> Asset:
        """Find one version, from ``NAME:VERSION``, ``NAME@latest`` or ``NAME`` (the latest), with or without ``azureml:``.

        Raises:
            PipelineError: the version does not exist.
        """
        name, version = split_reference(reference)
        before = f"{what}: " if what else ""
        versions = {asset.version: asset for asset in self.versions(kind, name)}
        if not versions:
            hint = nearest(name, self.names(kind), _ADD.get(kind, "add one with `mlops assets create FILE`"))
            raise PipelineError(
                f"{before}no {kind.removesuffix('s')} named {name!r} is registered on this machine", hint
            )
        if version in ("", "latest"):
            return newest(versions.values())
        if version not in versions:
            message = f"{before}{name!r} has no version {version!r} on this machine"
            label = f"write {name}@latest: labels are lowercase" if version.lower() == "latest" else ""
            raise PipelineError(message, label or nearest(version, versions))
        return versions[version]

    def versions(self, kind: str, name: str) -> list[Asset]:
        """List all versions of an asset, lowest first; empty if there are none."""
        folder = self._root / kind / name if _NAME.fullmatch(name) else None
        files = folder.glob(f"*/{_FACTS}") if folder else ()
        # A folder whose name begins with a dot is incomplete, and may stay so.
        found = [self._read(kind, path) for path in files if _NAME.fullmatch(path.parent.name)]
        return sorted(found, key=lambda asset: version_order(asset.version))

    def names(self, kind: str) -> list[str]:
        """List the names of the assets of a kind, sorted."""
        return sorted({path.parents[1].name for path in (self._root / kind).glob(f"*/[!.]*/{_FACTS}")})

    def all(self, kind: str) -> list[Asset]:
        """List all versions of all assets of a kind."""
        return [asset for name in self.names(kind) for asset in self.versions(kind, name)]

    def add(
        self,
        kind: str,
        name: str,
        version: str | None,
        type_: str,
        content: Path | Callable[[Path], Path],
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        same: Callable[[Asset], bool] | None = None,
    ) -> Asset:
        """Copy content in as a version; the next whole number if no version is given.

        Args:
            kind: One of :data:`KINDS`.
            name: A name of letters, digits, ``_``, ``-`` and ``.``.
            version: A text of the same form, which must not exist.
            type_: Type of the asset, such as ``uri_folder``.
            content: File or folder to copy, or a function that writes into a folder and returns the content's path.
            description: Description for people.
            tags: Tags for people, who search for them.
            properties: What is known about the content.
            same: Returns whether an existing version is what would be added; then that is returned, and nothing is added.

        Raises:
            PipelineError: the name or version is malformed, or exists.
        """
        check_part(name, "name")
        # A lock of each name: a job that registers an output need not wait while another asset is copied.
        place = self._root / ".locks" / f"{kind}.{name}"
        refusal = PipelineError(
            f"{name!r} is being registered by another process ({place})", "wait for it, and try again"
        )
        with locked(place, refusal, wait=_LONGEST_SECONDS):
            there = self.versions(kind, name)
            known = next((asset for asset in there if same and version in (None, asset.version) and same(asset)), None)
            if known is not None:
                return known
            target = self._root / kind / name / (version or _next([asset.version for asset in there]))
            check_part(target.name, "version")
            if target.name in (taken := [asset.version for asset in there]):
                message = f"{name!r} already has a version {version!r}, and versions do not change"
                raise PipelineError(message, f"choose another one; taken are: {', '.join(taken)}")
            for left in target.parent.glob(".*"):  # of a process that was killed: this one holds the lock
                remove_path(left)
            with atomic_folder(target) as folder:
                if callable(content):
                    path = content(folder).relative_to(folder)
                else:
                    path = Path("content") / content.name
                    (folder / "content").mkdir()
                    copy = shutil.copytree if content.is_dir() else shutil.copy2
                    copy(content, folder / path)
                created = datetime.now(UTC).isoformat(timespec="milliseconds")
                facts = {
                    "type": type_, "path": path.as_posix(), "created": created, "description": description,
                    "tags": dict(tags or {}), "properties": dict(properties or {}),
                }  # fmt: skip
                (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            return self._read(kind, target / _FACTS)

    def _read(self, kind: str, path: Path) -> Asset:
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            content = path.parent / facts["path"]
            return Asset(
                kind, path.parents[1].name, path.parent.name, facts["type"], str(content), facts["created"],
                facts.get("description", ""), dict(facts.get("tags") or {}), dict(facts.get("properties") or {}),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PipelineError(f"{path} cannot be read: {error}", f"remove the folder {path.parent}") from error


def split_reference(reference: str) -> tuple[str, str]:
    """Split ``NAME:VERSION``, ``NAME@latest`` or ``NAME``, with or without ``azureml:``; no version is ""."""
    plain = reference.removeprefix("azureml:")
    name, _, version = plain.partition("@") if "@" in plain else plain.partition(":")
    return name, version


def newest(versions: Iterable[Asset]) -> Asset:
    """Return what ``@latest`` means: the version that was created last, which need not have the highest number."""
    return max(versions, key=lambda item: (item.created, version_order(item.version)))


def version_order(version: str) -> tuple[int, int, str]:
    """Return the sort key of a version: numbers by size and before text, so that 10 comes after 9."""
    return (0, int(version), "") if version.isdecimal() else (1, 0, version)


def _next(taken: list[str]) -> str:
    return str(max((int(item) for item in taken if item.isdecimal()), default=0) + 1)


def check_part(text: str, noun: str) -> None:
    """Refuse what is not a valid name or version of an asset, here or on Azure ML. Raises PipelineError."""
    if not _NAME.fullmatch(text):
        raise PipelineError(
            f"{text!r} is not a valid {noun} for an asset",
            "use letters, digits, _, - and .; start with a letter or digit",
        )
