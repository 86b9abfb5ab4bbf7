"""The YAML files of pipelines: every scalar a text, duplicate keys and anchors refused as the service refuses them."""

from __future__ import annotations

import functools
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from testing.support.azure_pipelines.pipeline_errors import PipelineError

Tree = Any
"""A text, a list of trees, or a dictionary of trees by text."""


class _Loader(yaml.BaseLoader):
    """Scalars stay texts."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise PipelineError(f"line {event.start_mark.line + 1}: anchors and aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value.lower() in seen:
                raise PipelineError(f"line {key.start_mark.line + 1}: the key {key.value!r} is there twice")
            seen.add(key.value.lower())
        return super().construct_mapping(node, deep=True)


@functools.cache
def _parsed(text: str) -> Tree:
    """The content of a file; nobody changes it."""
    return yaml.load(text, _Loader)


class PipelineFiles:
    """The files of a repository, read once each.

    Args:
        root: Of the repository.
        replaced: Texts by path that stand for those on disk.
    """

    def __init__(self, root: Path, replaced: dict[str, str] | None = None) -> None:
        self.root = root
        self._replaced = replaced or {}
        self.read: dict[str, Tree] = {}

    def text(self, path: str) -> str:
        """What a file says, by its path below the root."""
        if path in self._replaced:
            return self._replaced[path]
        file = self.root / path
        if not file.is_file():
            raise PipelineError(f"the file {path} does not exist")
        return file.read_text(encoding="utf-8")

    def tree(self, path: str) -> dict[str, Tree]:
        """The content of a file, which is a mapping."""
        if path not in self.read:
            try:
                self.read[path] = _parsed(self.text(path))
            except yaml.YAMLError as error:
                raise PipelineError(f"{path} is not YAML: {error}") from error
            except PipelineError as error:
                raise PipelineError(f"{path}: {error}") from error
        if not isinstance(self.read[path], dict):
            raise PipelineError(f"{path} is not a mapping")
        return dict(self.read[path])

    def resolved(self, template: str, including: str) -> str:
        """The path of a template that a file names: below the root with a leading slash, or beside the file."""
        name, _, repository = template.partition("@")
        if repository not in ("", "self"):
            raise PipelineError(f"the template {template} is in the repository {repository!r}, which is not known")
        joined = PurePosixPath(name.lstrip("/")) if name.startswith("/") else PurePosixPath(including).parent / name
        parts: list[str] = []
        for part in joined.parts:
            if part != "..":
                parts.append(part)
            elif parts:
                parts.pop()
            else:
                raise PipelineError(f"the template {template} in {including} lies outside of the repository")
        return "/".join(parts)
