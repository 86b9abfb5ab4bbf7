"""Images that container groups can pull: those that a program names, and those in a folder of the emulator's state.

An image in the folder is the model that the image contains: ``REGISTRY/REPOSITORY/TAG/`` is the content of its ``/model``.
Nothing else of it matters here, because the command that serves is the emulator's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

_REFERENCE = re.compile(r"(?P<registry>[a-z0-9][a-z0-9.-]*)/(?P<repository>[a-z0-9][a-z0-9._/-]*):(?P<tag>\w[\w.-]*)")


@dataclass(frozen=True)
class RegistryImage:
    """What is in a registry under a name.

    Args:
        bundle: Model that the image contains and serves.
        command: Command that it runs instead.
        pullers: Identities that may pull; empty for a public image.
    """

    bundle: Path | None = None
    command: tuple[str, ...] = ()
    pullers: frozenset[str] = frozenset()


class RegistryImages(MutableMapping[str, RegistryImage]):
    """Images by their full names, ``REGISTRY/REPOSITORY:TAG``.

    Args:
        folder: Folder of the images that other programs have pushed; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._named: dict[str, RegistryImage] = {}

    def __getitem__(self, name: str) -> RegistryImage:
        if name in self._named:
            return self._named[name]
        place = self.place(name)
        if place is None or not place.is_dir():
            raise KeyError(name)
        return RegistryImage(bundle=place)

    def __setitem__(self, name: str, image: RegistryImage) -> None:
        self._named[name] = image

    def __delitem__(self, name: str) -> None:
        del self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def place(self, name: str) -> Path | None:
        """Return the folder of an image that is pushed under a name; None for invalid names."""
        found = _REFERENCE.fullmatch(name)
        if found is None or ".." in found["repository"].split("/"):
            return None
        return self.folder / found["registry"] / found["repository"] / found["tag"]
