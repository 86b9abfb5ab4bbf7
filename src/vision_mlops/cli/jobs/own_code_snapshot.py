"""The own code of a project that the workload of a step names, as a folder that goes with the step.

Steps run in working copies, here and on Azure ML, and find own code there, as commands find it in the current folder. The
folder holds the files that the named modules need, and nothing else of the project. It is named after its content.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

from vision_mlops.cli.jobs.step_workload import read_workload
from vision_mlops.config.own_code import CodeReference, references, source_file, source_files
from vision_mlops.core import paths
from vision_mlops.core.errors import ConfigError, PipelineError
from vision_mlops.core.files import atomic_folder
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.ignore_files import IGNORE_FILES, is_left_out
from vision_mlops.jobs.definitions import tags
from vision_mlops.jobs.definitions.plan.nodes import Node, Value


def step_code(node: Node) -> Path | None:
    """Return the folder with the own code that a step needs, as its code; None where it needs none, or has it.

    Raises:
        PipelineError: own code is missing or left out by an ignore file, or not in the code that the definition has for it.
    """
    try:
        found = _references(node)
        if node.code is not None:
            if node.code.is_dir():  # not a registered one
                for reference in found:
                    source_file(reference, node.code)
            return None
        files = sorted({file for reference in found for file in source_files(reference)})
        return _snapshot(files) if files else None
    except (ConfigError, PipelineError) as error:
        of = f", which has code of its own in {node.code}" if node.code is not None else ""
        raise PipelineError(f"step {node.step!r}{of}: {error.message}", error.hint) from error


def _references(node: Node) -> list[CodeReference]:
    """Return the own code that a step reads of its workloads: of the sections that a tag names, else of all."""
    narrowed = tags.sections_read(node.tags)
    found: list[CodeReference] = []
    for name, source in node.inputs.items():
        if isinstance(source, Value) and name in narrowed:
            workload = read_workload(source.text, node.code)
            found += references(workload, narrowed[name]) if workload is not None else []
        elif isinstance(source, Value) and source.text.lstrip().startswith("{"):  # as `mlops run` gives a workload
            with suppress(PipelineError):  # other JSON, which is none
                workload = read_workload(source.text, None)
                found += references(workload) if workload is not None else []
    return found


def _snapshot(files: list[Path]) -> Path:
    root = Path.cwd()
    if ignored := next((file for file in files if is_left_out(root, file.as_posix())), None):
        raise PipelineError(
            f"{ignored} is needed by the workload, and {' or '.join(IGNORE_FILES)} in {root} leaves it out",
            f"take it out of the patterns of that file, or add !/{ignored.as_posix()}",
        )
    content = {file.as_posix(): file_hash(root / file) for file in files}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    target = paths.home() / "cache" / "own-code" / digest
    if not target.is_dir():
        with atomic_folder(target, overwrite=True) as folder:
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / file, folder / file)
    return target
