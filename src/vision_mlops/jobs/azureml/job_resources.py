"""Provides what a job needs before it can run: a compute cluster, a data asset. Each is created once and then reused.

Data is found by the fingerprint of its content: nothing is uploaded twice, and a version never changes. An existing cluster
is never changed. Environments are in ``environment_assets``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors, found_or_none
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.made_tags import made_tags
from vision_mlops.config.azure_settings import AzureSettings, ComputeCluster
from vision_mlops.core.errors import AzureError, DataError, PipelineError
from vision_mlops.core.hashing import file_hash
from vision_mlops.core.text import counted
from vision_mlops.data.data_versions import name_of
from vision_mlops.data.folder_contents import data_files, describe
from vision_mlops.jobs.azureml.data_assets import find_or_create

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

Say = Callable[[str], None]


def ensure_compute(client: MLClient, cluster: ComputeCluster, say: Say) -> None:
    """Create a cluster, unless one of its name exists; that is left as it is.

    Raises:
        AzureError: the service refuses (for lack of quota, for example), or the cluster is broken.
    """
    with azure_errors(f"compute cluster {cluster.name!r} ({cluster.sku})"):
        found = existing(lambda: client.compute.get(cluster.name))
        if not found:
            from azure.ai.ml.entities import AmlCompute, IdentityConfiguration

            say(f"creating compute cluster {cluster.name} ({cluster.sku}, up to {counted(cluster.max_nodes, 'node')})")
            wanted = AmlCompute(
                name=cluster.name,
                size=cluster.sku,
                min_instances=cluster.min_nodes,
                max_instances=cluster.max_nodes,
                idle_time_before_scale_down=cluster.idle_seconds,
                tier=cluster.tier,
                tags=made_tags(),
                # Steps that register models sign in with the identity of the cluster.
                identity=IdentityConfiguration(type="system_assigned"),
            )
            with quiet():
                found = client.compute.begin_create_or_update(wanted).result()
    _check_compute(found)
    size = getattr(found, "size", None)
    if size and size.lower() != cluster.sku.lower():
        say(
            f"note: compute cluster {cluster.name} has size {size}, not {cluster.sku} as in the settings; it is not changed"
        )


def require_compute(client: MLClient, name: str) -> None:
    """Make sure that a compute target which the settings do not describe exists. Raises AzureError."""
    hint = "name one that Azure ML studio lists, or cpu-cluster or gpu-cluster, which are created if they are missing"
    with azure_errors(f"compute {name!r}", hint), quiet():
        found = client.compute.get(name)
    _check_compute(found)


def ensure_data(client: MLClient, settings: AzureSettings, path: Path, type_: str, say: Say) -> str:
    """Upload a local file or folder as a data asset, unless the same content already exists.

    Args:
        client: Client of a workspace.
        settings: The datastore to upload to.
        path: File or folder.
        type_: ``uri_file`` or ``uri_folder``.
        say: Told what was uploaded.

    Returns:
        ``NAME:VERSION``: the name of the file or folder, and the version that `mlops data register` would give.

    Raises:
        PipelineError: it does not exist, is of the wrong kind, is empty, or cannot be read.
        AzureError: the service refuses.
    """
    _check_local(path, type_)
    try:
        content = describe(path, lenient=True)
    except DataError as error:
        raise PipelineError(f"data {error.message}", error.hint) from error
    version, _ = find_or_create(client, settings, content, name_of(content, "data"), say=say)
    return f"{version.name}:{version.version}"


def content_hash(path: Path) -> str:
    """Hash a file, or the files of a folder with their relative paths, by sha256; order, dates and place do not matter.

    Files that are excluded by ``.amlignore``, or else by ``.gitignore``, do not count, because they are not uploaded.

    Raises:
        PipelineError: it cannot be read.
    """
    try:
        if path.is_file():
            return file_hash(path)
        digest = hashlib.sha256()
        for name in data_files(path):
            digest.update(f"{name}\0{file_hash(path / name)}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error}", "check the path and its permissions") from error


def existing(get: Callable[[], Any]) -> Any | None:
    """Return what a call of the SDK returns; None if the service says that it does not exist."""
    with quiet():
        return found_or_none(get)


def _check_local(path: Path, type_: str) -> None:
    wrong = (
        "does not exist"
        if not path.exists()
        else "is a folder, not a file"
        if type_ == "uri_file" and path.is_dir()
        else "is a file, not a folder"
        if type_ == "uri_folder" and path.is_file()
        else ""
    )
    if wrong:
        raise PipelineError(f"data {path} {wrong}", f"give the path of a {type_.removeprefix('uri_')}")


def _check_compute(compute: Any) -> None:
    state = str(getattr(compute, "provisioning_state", None) or "")
    if state in ("Failed", "Deleting", "Canceled"):
        errors = getattr(compute, "provisioning_errors", None) or []
        why = "; ".join(str(getattr(item, "message", None) or item) for item in errors)
        hint = "delete it in Azure ML studio and run again, or name another one"
        raise AzureError(f"compute {compute.name!r} is in state {state}" + (f": {why}" if why else ""), hint)
