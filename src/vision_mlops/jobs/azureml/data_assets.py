"""Lists and finds data assets of a workspace, by reference or content, and creates those whose content is new.

Versions are whole numbers. The properties of a version describe its content; the fingerprint among them decides whether
content already exists, so that one content is one version, whoever registers it and with whichever command.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mlops.azure.azure_errors import azure_errors, is_missing
from vision_mlops.azure.clients import quiet
from vision_mlops.azure.retries import retry_while_busy
from vision_mlops.core.errors import AzureError, DataError
from vision_mlops.core.text import counted, nearest
from vision_mlops.data.asset_store import Asset, check_part, newest, split_reference, version_order
from vision_mlops.data.folder_contents import Content, describe, public_source
from vision_mlops.data.manifest import MANIFEST, write_manifest

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from vision_mlops.config.azure_settings import AzureSettings
    from vision_mlops.storage import Progress

Say = Callable[[str], None]

_ATTEMPTS = 5
_PATIENCE_SECONDS = 60.0
_FOLDER = "mlops/data"  # of the datastore
_ADD = "add one with `mlops data register FOLDER --name NAME --on azure`"


def versions(client: MLClient, name: str, *, archived: bool = False, say: Say = lambda text: None) -> list[Asset]:
    """List all versions of a data asset, lowest first; empty if there are none.

    Args:
        client: Client of a workspace.
        name: Name of the asset.
        archived: Include archived ones.
        say: Told when the service is busy.

    Raises:
        AzureError: the service refuses.
    """
    found = _list(client, name, archived=archived, say=say)
    return sorted((_record(item) for item in found), key=lambda item: version_order(item.version))


def list_newest(client: MLClient, *, say: Say = lambda text: None) -> list[Asset]:
    """List each data asset of the workspace with the number of its newest version, of which only the type is known.

    Raises:
        AzureError: the service refuses.
    """
    found = _list(client, None, archived=False, say=say)
    return sorted(
        (Asset("data", item.name, str(item.latest_version or ""), str(item.type), "", "") for item in found),
        key=lambda item: item.name,
    )


def find(client: MLClient, reference: str, *, say: Say = lambda text: None) -> Asset:
    """Find one version, from ``NAME:VERSION``, ``NAME@latest`` or ``NAME`` (the latest), with or without ``azureml:``.

    Raises:
        AzureError: the version does not exist, or the service refuses.
    """
    name, version = split_reference(reference)
    check_part(name, "name")
    there = {item.version: item for item in versions(client, name, archived=True, say=say)}
    if not there:
        names = [item.name for item in list_newest(client, say=say)]
        raise AzureError(f"no data asset {name!r} in the workspace", nearest(name, names, _ADD), 404)
    if version in ("", "latest"):
        active = versions(client, name, say=say)
        if not active:
            hint = f"name one by its number: {', '.join(there)}"
            raise AzureError(f"all versions of data asset {name!r} are archived", hint, 404)
        return newest(active)
    if version not in there:
        raise AzureError(
            f"data asset {name!r} has no version {version!r} in the workspace", nearest(version, there), 404
        )
    return there[version]


def find_or_create(
    client: MLClient,
    settings: AzureSettings,
    content: Content,
    name: str,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    say: Say = lambda text: None,
    progress: Progress | None = None,
) -> tuple[Asset, bool]:
    """Find the version with a content; if there is none, upload it as a version with the next whole number.

    Archived versions count, too. If several register the same content at the same time, all get the same version. An
    interrupted upload leaves no version, and continues with the next call.

    Args:
        client: Client of a workspace.
        settings: The datastore to upload to.
        content: A file or folder, as :func:`~vision_mlops.data.folder_contents.describe` returns it.
        name: Name of the asset.
        description: Description for people.
        tags: Tags for people.
        say: Told what is uploaded, and what Ctrl-C leaves.
        progress: Told about the progress of the upload.

    Returns:
        The version, and whether it is new.

    Raises:
        PipelineError: the name is malformed.
        DataError: a file has a name that storage does not accept, or was changed meanwhile.
        AzureError: the service refuses, or files could not be uploaded.
    """
    check_part(name, "name")
    address, number = "", 0
    refused: AzureError | None = None
    for _ in range(_ATTEMPTS):
        there = versions(client, name, archived=True, say=say)
        same = [item for item in there if item.fingerprint == content.fingerprint]
        if same:
            return same[-1], False
        if refused is not None and str(number) not in [item.version for item in there]:
            raise refused  # nobody else has registered that version, so there is another reason
        number = 1 + max((int(item.version) for item in there if item.version.isdecimal()), default=0)
        if not address:
            say(f"uploading {content.path} as data asset {name}:{number}")
            try:
                address = _upload(client, settings, content, name, progress)
            except KeyboardInterrupt:
                say("interrupted: the uploaded files are kept; the same command continues where it stopped")
                raise
        from azure.ai.ml.entities import Data

        entity = Data(
            name=name, version=str(number), type="uri_folder" if content.path.is_dir() else "uri_file", path=address,
            description=description or None, tags=dict(tags or {}), properties=content.properties(shared=True),
        )  # fmt: skip
        try:
            made = _create(client, entity, say)
        except AzureError as error:
            # The SDK has an error of its own for a number that is already used.
            if error.status != 409 and type(error.__cause__).__name__ != "AssetPathException":
                raise
            refused = error
            continue
        if made.fingerprint == content.fingerprint:
            return made, True
    raise AzureError(f"data asset {name!r}: others keep registering versions", "try again")


def _upload(client: MLClient, settings: AzureSettings, content: Content, name: str, progress: Progress | None) -> str:
    """Upload the files of a content to a folder of its own; return their address.

    Files that were uploaded before are not sent again.
    """
    from vision_mlops import storage

    address = f"azureml://datastores/{settings.datastore}/paths/{_FOLDER}/{name}/{content.fingerprint}"
    place = storage.locate(address, settings, client=client)
    files = {file: content.file(file) for file in content.files}
    with tempfile.TemporaryDirectory(prefix="mlops-") as temporary:
        manifest = content.manifest
        if manifest is not None and public_source(manifest.source) != manifest.source:
            # It would reveal a path of this machine.
            write_manifest(Path(temporary), manifest.model_copy(update={"source": public_source(manifest.source)}))
            files[MANIFEST] = Path(temporary, MANIFEST)
        summary = storage.upload(content.path.parent, place, files=files, progress=progress)
    if summary.failures:
        file, reason = next(iter(sorted(summary.failures.items())))
        failed = f"{len(summary.failures)} of {counted(len(files), 'file')}"
        message = f"{failed} could not be uploaded to {place.url}: {file}: {reason}"
        raise AzureError(message, "run the same command again; files that were uploaded are not sent again")
    if describe(content.path, lenient=content.manifest is None).fingerprint != content.fingerprint:
        raise DataError(f"{content.path} was changed during the upload", "try again when nothing writes to it")
    return f"{address}/" if content.path.is_dir() else f"{address}/{content.path.name}"


def _create(client: MLClient, entity: Any, say: Say) -> Asset:
    def create() -> Any:
        with azure_errors(f"data {entity.name}:{entity.version}"), quiet():
            return client.data.create_or_update(entity)

    # It already has its number, so sending it again does not create a second version.
    return _record(retry_while_busy(create, say, seconds=_PATIENCE_SECONDS))


def _list(client: MLClient, name: str | None, *, archived: bool, say: Say) -> list[Any]:
    from azure.ai.ml.constants import ListViewType

    view = ListViewType.ALL if archived else ListViewType.ACTIVE_ONLY

    def call() -> list[Any]:
        with azure_errors(f"data asset {name!r}" if name else "data assets"), quiet():
            return list(client.data.list(name, list_view_type=view))

    try:
        return retry_while_busy(call, say, seconds=_PATIENCE_SECONDS)
    except AzureError as error:
        if name and is_missing(error):
            return []
        raise


def _record(entity: Any) -> Asset:
    made = getattr(entity.creation_context, "created_at", None)
    created = made.astimezone(UTC).isoformat(timespec="milliseconds") if isinstance(made, datetime) else str(made or "")
    return Asset(
        "data", str(entity.name), str(entity.version), str(entity.type), str(entity.path), created,
        entity.description or "", dict(entity.tags or {}), dict(entity.properties or {}),
    )  # fmt: skip
