"""What the result of a step depends on beyond its definition: of our commands, their code and the workload that they read.

The engine does not know that; the command line, which knows both, passes it on.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vision_mlops
from vision_mlops.cli import commands
from vision_mlops.cli.jobs.own_code_snapshot import step_code
from vision_mlops.cli.jobs.step_workload import read_workload
from vision_mlops.config.workload import Workload
from vision_mlops.config.workload_files import environment_overrides, find_workload, list_workloads
from vision_mlops.core.errors import PipelineError, RegistryError
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.core.ignore_files import snapshot_files
from vision_mlops.core.import_graph import ImportGraph
from vision_mlops.core.text import nearest
from vision_mlops.jobs.definitions import tags
from vision_mlops.jobs.local.state.job_context import Dependencies

if TYPE_CHECKING:
    from vision_mlops.jobs.definitions.plan.nodes import Node

_OURS = re.compile(r"\bmlops\b|\bvision_mlops\b")


def dependencies() -> Dependencies:
    """Return what the engine has to know of the workload, our code, a project's own code and the registry."""
    graph = ImportGraph(Path(vision_mlops.__file__).parent)
    return Dependencies(registry_state, workload_sections, Software(graph).of, step_code)


def workload_sections(text: str, sections: Sequence[str], code: Path | None) -> str | None:
    """Return the sections of a workload that a step reads, as JSON, however the workload is given.

    Args:
        text: Name, file or JSON, as ``--workload`` takes it; empty for the default.
        sections: Top-level keys of a workload.
        code: Folder that the step runs in a copy of, where a file may lie.

    Returns:
        None where only the step can know the workload: the shell completes the text, or the step makes the file.

    Raises:
        PipelineError: the workload or a section does not exist, or the workload has mistakes.
    """
    known = list(Workload.model_fields)
    if wrong := next((name for name in sections if name not in known), None):
        raise PipelineError(
            f"a workload has no section {wrong!r}, which a tag {tags.READS}* names", nearest(wrong, known)
        )
    workload = read_workload(text, code)
    if workload is None:
        return None
    content = workload.model_dump(mode="json")
    return json.dumps({key: content[key] for key in sections}, sort_keys=True)


class Software:
    """The part of our code that steps run.

    Args:
        graph: Of the installed package.
    """

    def __init__(self, graph: ImportGraph) -> None:
        self._graph = graph
        self._known: dict[frozenset[str], str] = {}
        self._imports: dict[tuple[Path, ...], set[str]] = {}

    def of(self, node: Node, inputs: Mapping[str, str]) -> str:
        """Hash of all of our code that a step can reach; empty where it has nothing to do with us.

        A tag names its commands. Without it a step that mentions us reaches everything, and so may it read each workload;
        another one reaches what the Python files of its code import.

        Raises:
            PipelineError: the tag names a command that does not exist.
        """
        if named := tags.commands(node.tags):
            callbacks = [_named(command) for command in named]
            takes = any("workload" in inspect.signature(each).parameters for each in callbacks)
            whole = takes and not tags.sections_read(node.tags)
            return self._hash(each.__module__ for each in callbacks) + (_any_workload() if whole else "")
        texts = [node.command, *(text for name, text in inputs.items() if node.is_value(name))]
        if any(_OURS.search(text) for text in texts):
            return self._hash(self._graph.modules) + _any_workload()
        return self._hash(self._imported(node))

    def _hash(self, modules: Iterable[str]) -> str:
        entries = frozenset(modules)
        if entries and entries not in self._known:
            names = [path.as_posix() for path in self._graph.reached(entries)]
            with Fingerprints() as fingerprints:
                self._known[entries] = fingerprints.of_files(self._graph.root, names)
        return self._known.get(entries, "")

    def _imported(self, node: Node) -> set[str]:
        """Find our modules that the Python files of a step import, such as its entry script."""
        roots = tuple(path for path in (node.code, *node.includes) if path is not None)
        if roots not in self._imports:
            files = [root / name for root in roots for name in (snapshot_files(root) if root.is_dir() else ("",))]
            found = [self._graph.imported_by(file) for file in files if file.suffix == ".py"]
            self._imports[roots] = set().union(*found)
        return self._imports[roots]


def _any_workload() -> str:
    """Hash of all workloads that have a name here, and of what the environment lays over them."""
    content = {name: find_workload(name).read_text(encoding="utf-8", errors="replace") for name in list_workloads()}
    text = json.dumps([content, environment_overrides()], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _named(command: str) -> Callable[..., Any]:
    found = commands.callback(command)
    if found is None:
        hint = nearest(command, commands.callbacks())
        raise PipelineError(f"the tag {tags.COMMAND} names {command!r}, which mlops does not have", hint)
    return found


def registry_state(kind: str, node: Node, inputs: Mapping[str, str]) -> str:
    """Return what the registry holds of the model that a step judges against and registers."""
    from vision_mlops.registry import open_registry

    if kind != "registry":
        raise PipelineError(f"step {node.step!r} depends on an unknown state {kind!r}", "known: registry")
    registry = open_registry()
    try:
        versions = registry.versions(inputs["model_name"])
    except RegistryError:
        return "none"
    return json.dumps([[version.version, version.bundle_id, sorted(version.aliases)] for version in versions])
