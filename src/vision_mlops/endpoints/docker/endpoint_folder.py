"""The files of an endpoint of containers on this machine: its keys, a copy of each bundle that it serves, and its tags.

Only its owner may enter the folder. What is mounted into containers is one level deeper and may be read by everyone who gets
there: on this machine nobody else does, and in a container the server does, whatever its user is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.errors import DeploymentError
from vision_mlops.core.files import atomic_folder, atomic_write, remove_path
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.locks import locked
from vision_mlops.endpoints.inferencing_image import copy_readable
from vision_mlops.model.bundle import MANIFEST
from vision_mlops.serving.access_keys import KEY_NAMES, new_key


class EndpointFolder:
    """The folder of one endpoint.

    Args:
        name: Of the endpoint.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = paths.home() / "endpoints" / f"docker-{name}"
        self.keys_path = self.path / "keys"
        """Folder that is mounted: the replacement of a file that was mounted alone would not be seen."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep other deployments of this endpoint out of it.

        Raises:
            DeploymentError: another deployment is in progress.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        refusal = DeploymentError(
            f"endpoint {self.name!r} is being changed by another command", "wait until that is done"
        )
        with locked(self.path / "lock", refusal):
            yield

    def keys(self) -> dict[str, str]:
        """Return the keys by name. Raises DeploymentError if they are missing."""
        keys = self._read()
        if not keys:
            raise DeploymentError(
                f"the keys of endpoint {self.name!r} are not in {self.keys_path}",
                "rotate both with `mlops endpoint keys`",
            )
        return keys

    def make_keys(self) -> None:
        """Create both keys if they do not exist."""
        if not self._read():
            self._write(_new_keys())

    def rotate(self, which: str) -> str:
        """Replace one key and return the new one."""
        keys = (self._read() or _new_keys()) | {which: new_key()}
        self._write(keys)
        return keys[which]

    def copy_bundle(self, bundle: Path) -> Path:
        """Copy a bundle, to be mounted: the copy stays while it is served, whatever happens to the registry's."""
        target = self.path / "bundles" / file_hash(bundle / MANIFEST)[:12]
        if not target.is_dir():
            with atomic_folder(target) as folder:
                folder.rmdir()
                copy_readable(bundle, folder)
        return target

    def keep_bundle(self, name: str) -> None:
        """Remove copies of all bundles but the one in the folder of this name."""
        for path in (self.path / "bundles").glob("*"):
            if path.name != name:
                remove_path(path)

    def tags(self) -> dict[str, str]:
        """Return the tags of the endpoint."""
        try:
            content = json.loads((self.path / "tags.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {str(name): str(value) for name, value in content.items()}

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Replace the tags."""
        atomic_write(self.path / "tags.json", json.dumps(dict(tags), indent=1))

    def remove(self) -> None:
        """Remove the folder with the keys; it may be missing."""
        remove_path(self.path)

    def _read(self) -> dict[str, str]:
        """Return the keys by name; none if the file is missing or has another content."""
        try:
            lines = (self.keys_path / "keys").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return {}
        return dict(zip(KEY_NAMES, lines, strict=True)) if len(lines) == len(KEY_NAMES) else {}

    def _write(self, keys: Mapping[str, str]) -> None:
        self.keys_path.mkdir(parents=True, exist_ok=True)
        self.keys_path.chmod(0o755)
        atomic_write(self.keys_path / "keys", "".join(f"{keys[name]}\n" for name in KEY_NAMES), mode=0o644)


def _new_keys() -> dict[str, str]:
    return {name: new_key() for name in KEY_NAMES}
