"""Publishes the outputs of a step: as links of the job and, as the definition asks, at paths of the user and as assets."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vision_mlops.core import paths
from vision_mlops.core.errors import JobError, PipelineError
from vision_mlops.core.files import atomic_folder, atomic_write
from vision_mlops.core.hashing import Fingerprints
from vision_mlops.data.asset_store import AssetStore
from vision_mlops.jobs.definitions.expressions import ExpressionError, render
from vision_mlops.jobs.definitions.plan.nodes import JobPlan, Node, OutputTarget
from vision_mlops.jobs.local.inputs.input_sources import MODELS, datastore_path
from vision_mlops.jobs.local.state.job_context import Context
from vision_mlops.jobs.local.state.job_state import JobFolder
from vision_mlops.jobs.local.steps.step_results import StepResult

_DEFAULT_DATASTORE = "workspaceblobstore"


def publish(context: Context, node: Node, result: StepResult) -> None:
    """Publish all outputs of a step that succeeded.

    Raises:
        PipelineError: a named asset already has that version, with other content.
        JobError: an output cannot be copied to its path.
    """
    plan, folder, fingerprints = context.plan, context.folder, context.fingerprints
    for name, path in result.outputs.items():
        _link(folder.step(node.step) / "outputs" / name, path)
        for job_output, target in _targets(plan, node, name):
            if job_output:
                _link(folder.path / "outputs" / job_output, path)
            if target.path is not None:
                _copy(path, _place(plan, folder, job_output or name, target), result.hashes[name], fingerprints)
            if target.name is not None:
                _register(path, target, result.hashes[name], fingerprints)


def check_places(plan: JobPlan, folder: JobFolder) -> None:
    """Refuse, before anything runs, an output that would replace something that is not an output.

    Raises:
        PipelineError: the target is not a path, or something of another kind exists there.
    """
    targets = [(name, target) for node in plan.nodes for name, target in node.outputs.items()]
    targets += [(name, target) for name, (_, _, target) in plan.outputs.items()]
    for name, target in targets:
        if target.path is None:
            continue
        place = _place(plan, folder, name, target)
        problem = _problem(place, target.type == "uri_file")
        if problem:
            raise PipelineError(f"output {name!r} cannot be written to {place}: {problem}", "use a path of its own")


def _problem(place: Path, is_file: bool) -> str:
    """Say why an output may not be written to a path; empty if it may."""
    if not _exists(place):
        above = next(parent for parent in place.parents if _exists(parent))
        if not above.is_dir():
            return f"{above} is a file"
        return "" if os.access(above, os.W_OK | os.X_OK) else f"{above} cannot be written to"
    if is_file == place.is_dir():
        return f"a {'folder' if place.is_dir() else 'file'} is there"
    ours = place.is_relative_to(paths.home()) and place != paths.home()
    if is_file or ours or _mark_of(place).exists() or not any(place.iterdir()):
        return ""
    return "the folder holds files that were not written by a job"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that this user may not read
        return False


def _mark_of(place: Path) -> Path:
    """Return the file which records that a path holds the output of a job, which that of another job may replace."""
    name = hashlib.sha256(str(place).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return paths.home() / "cache" / "places" / name


def job_outputs(plan: JobPlan, folder: JobFolder) -> dict[str, str]:
    """Return where the outputs of a successful job are: at the path in the definition, or else in the job's folder."""
    found = {}
    for name, (_, _, target) in plan.outputs.items():
        place = folder.path / "outputs" / name if target.path is None else _place(plan, folder, name, target)
        found[name] = str(place)
    return found


def _targets(plan: JobPlan, node: Node, output: str) -> Iterator[tuple[str, OutputTarget]]:
    """Yield what the job and its step say about an output, with the name of the job's output, or an empty one."""
    bound = [(key, target) for key, (step, name, target) in plan.outputs.items() if (step, name) == (node.step, output)]
    if len(plan.nodes) > 1 or not bound:
        yield "", node.outputs.get(output) or OutputTarget("uri_folder")  # default artifacts are not declared
    yield from bound


def _place(plan: JobPlan, folder: JobFolder, output: str, target: OutputTarget) -> Path:
    assert target.path is not None
    datastore = plan.settings.get("default_datastore") or _DEFAULT_DATASTORE
    datastore = str(datastore).removeprefix("azureml:")
    known: dict[tuple[str, ...], str | None] = {
        ("name",): folder.name,
        ("parent", "name"): folder.name,
        ("output_name",): output,
        ("default_datastore",): datastore,
    }
    try:
        text = render(target.path, known)
    except ExpressionError as error:
        raise PipelineError(f"output {output!r}: {error}", "use ${{name}} and ${{output_name}}") from error
    store = datastore_path(text)
    if store is not None:
        return store
    return (target.base / Path(text.removeprefix("file:")).expanduser()).resolve()


def _link(link: Path, path: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(path)


def _copy(source: Path, target: Path, digest: str, fingerprints: Fingerprints) -> None:
    """Copy an output to a path completely or not at all, unless the same content is already there."""
    if target.exists() and fingerprints.of(target) == digest:
        return
    if problem := _problem(target, source.is_file()):  # it was created while the step ran
        raise JobError(f"the output cannot be written to {target}: {problem}", "remove it, or use another path")
    try:
        atomic_write(_mark_of(target), f"{target}\n")
        if source.is_dir():
            with atomic_folder(target, overwrite=True) as temporary:
                shutil.copytree(source, temporary, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary_file = target.with_name(f".{target.name}.{os.getpid()}.new")
            try:
                shutil.copy2(source, temporary_file)
                temporary_file.replace(target)
            finally:
                temporary_file.unlink(missing_ok=True)
    except OSError as error:
        raise JobError(f"the output cannot be written to {target}: {error}", "check the path and free space") from error


def _register(path: Path, target: OutputTarget, digest: str, fingerprints: Fingerprints) -> None:
    assert target.name is not None
    store, kind = AssetStore(), "models" if target.type in MODELS else "data"
    store.add(
        kind, target.name, target.version, target.type, path,
        same=lambda asset: fingerprints.of(asset.content) == digest,
    )  # fmt: skip
