"""``mlops data register``, ``list`` and ``show``: versions of data on this machine or in an Azure ML workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.options import JsonOption, OnOption, RunLocation, filled, pairs
from vision_mlops.cli.output import count_bar, emit, emit_json, emit_table, say, transfer_bar
from vision_mlops.core.errors import DataError

if TYPE_CHECKING:
    from vision_mlops.data.asset_store import Asset

_PREFIX = "azureml:"


def register(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Prepared data, class folders, or any folder.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the asset.", show_default="that of the prepared workload or the folder"),
    ] = None,
    description: Annotated[str, typer.Option(help="Description for people.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Tag a new version. Repeatable.")] = None,
    on: OnOption = RunLocation.LOCAL,
    json_: JsonOption = False,
) -> None:
    """Store a folder as a version of a data asset, which jobs refer to as `azureml:NAME:VERSION`. A version never changes.

    The same content gets the same version again; changed content gets the next number.

    Example: `mlops data register outputs/data/textile --name textile`
    """
    from vision_mlops.data import data_versions
    from vision_mlops.data.folder_contents import describe, left_out

    tags = {key: value.strip() for key, value in pairs(tag, "--tag", "season=spring").items()}
    if folder.is_file():
        raise DataError(f"{folder} is a file, not a folder", "give the folder that it is in")
    with count_bar("hashing files") as progress:
        content = describe(folder, progress=progress)
    if ignored := left_out(content.path, content.files):
        say(f"note: {ignored}")
    chosen = name if name is not None else data_versions.name_of(content)
    if on is RunLocation.AZURE:
        from vision_mlops.jobs.azureml.data_assets import find_or_create, versions

        client, settings = workspace()
        with transfer_bar("uploading") as sent:
            version, new = find_or_create(
                client, settings, content, chosen, description=description, tags=tags, say=say, progress=sent
            )
        if not new and version not in versions(client, chosen, say=say):
            say("note: it is archived; Azure ML studio can restore it")
    else:
        with count_bar("copying files") as progress:
            version, new = data_versions.register(
                content, chosen, description=description, tags=tags, progress=progress
            )
    text = f"{'registered' if new else 'unchanged'}: {version.reference}"
    emit({"new": new, **version.to_dict()}, text, as_json=json_)
    if not json_ and not new and (tags or description):
        say("note: it keeps the tags and description that it was registered with")


def list_(
    name: Annotated[str | None, typer.Option(help="List all versions of this asset.")] = None,
    on: OnOption = RunLocation.LOCAL,
    json_: JsonOption = False,
) -> None:
    """List the data assets with their newest version, or the versions of one.

    Example: `mlops data list --name textile`
    """
    from vision_mlops.data import data_versions

    if on is RunLocation.AZURE:
        from vision_mlops.jobs.azureml import data_assets as remote

        client, _ = workspace()
        found = remote.list_newest(client, say=say) if name is None else remote.versions(client, name, say=say)
        if name is not None and not found:
            remote.find(client, name, say=say)  # reports what exists instead
    else:
        found = data_versions.list_newest() if name is None else data_versions.versions(name)
        if name is not None and not found:
            data_versions.find(name)
    place = " --on azure" if on is RunLocation.AZURE else ""
    rows = [_row(version) if name or on is RunLocation.LOCAL else _asset_row(version) for version in found]
    hint = f"no data assets yet: mlops data register FOLDER --name NAME{place}"
    emit_table(rows, as_json=json_, content=[version.to_dict() for version in found], empty=hint)


def show(
    what: Annotated[
        str,
        typer.Argument(
            callback=filled, metavar="FOLDER|NAME[:VERSION]", help="Prepared folder, or a data asset: `textile@latest`."
        ),
    ],
    on: OnOption = RunLocation.LOCAL,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hash the files of the version again; exit with code 1 if some have changed."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Print the number of images per class and split of a prepared folder, or all that is known about a data asset.

    A name that is also a folder here means the folder; write `azureml:NAME` for an asset of the same name.

    Example: `mlops data show outputs/data/textile`, or `mlops data show azureml:textile:3`
    """
    from vision_mlops.data import data_versions

    if on is RunLocation.LOCAL and _is_folder(what):
        if verify:
            raise DataError(f"{what} is a folder, not a version", f"give NAME:VERSION, or azureml:{what}")
        print_counts(Path(what), as_json=json_)
        return
    if verify and on is RunLocation.AZURE:
        raise DataError("--verify reads files on this machine", "remove --on azure")
    version = find_version(what, on)
    damage = data_versions.verify(version) if verify else None
    if json_:
        emit_json(version.to_dict() if damage is None else {**version.to_dict(), "damage": damage})
    else:
        _print_version(version)
        if damage is not None:
            _say_damage(version, damage)
    if damage:
        raise typer.Exit(1)


def print_counts(folder: Path, *, as_json: bool) -> None:
    """Print the number of images per class and split of a prepared folder."""
    from vision_mlops.data.manifest import read_manifest

    manifest = read_manifest(folder)
    counts = manifest.counts()
    excluded = [item.model_dump() for item in manifest.excluded]
    content = {"folder": folder, "fingerprint": manifest.fingerprint, "counts": counts, "excluded": excluded}
    rows = [{"class": label, **{split: counts[split][label] for split in counts}} for label in manifest.classes]
    emit_table(rows, as_json=as_json, content=content)


def find_version(what: str, place: RunLocation) -> Asset:
    """Find a version on this machine or in the workspace by what the user typed. Raises MlopsError if there is none."""
    from vision_mlops.data import data_versions
    from vision_mlops.data.asset_store import split_reference

    if place is RunLocation.AZURE:
        from vision_mlops.jobs.azureml.data_assets import find

        return find(workspace()[0], what, say=say)
    name, _ = split_reference(what)
    if not what.startswith(_PREFIX) and not data_versions.versions(name):
        hint = data_versions.suggestion(name)
        raise DataError(f"{what} is neither a prepared folder nor a data asset of this machine", hint)
    return data_versions.find(what)


def workspace() -> tuple[Any, Any]:
    """Return a client of the workspace, and its settings. Raises MlopsError if it cannot be reached."""
    from vision_mlops.azure.clients import check_workspace, ml_client
    from vision_mlops.config.azure_settings import AzureSettings

    place = AzureSettings.load()
    client = ml_client(place)
    check_workspace(client, place)
    return client, place


def _is_folder(what: str) -> bool:
    """Tell whether a word means a folder: an existing one, or a path that cannot be a name."""
    if what.startswith(_PREFIX):
        return False
    return Path(what).is_dir() or "/" in what


def _row(version: Asset) -> dict[str, Any]:
    return {
        "reference": version.reference,
        "created": version.created[:19],
        "images": version.number("images"),
        "bytes": version.number("bytes"),
        "fingerprint": version.fingerprint[:12],
        "source": version.properties.get("source", ""),
        "tags": ", ".join(f"{key}={value}" for key, value in version.tags.items()),
    }


def _asset_row(version: Asset) -> dict[str, Any]:
    return {"reference": version.reference, "type": version.type}


def _print_version(version: Asset) -> None:
    properties = version.properties
    rows = {
        "reference": version.reference,
        "type": version.type,
        "path": version.path,
        "created": version.created,
        "created by": properties.get("created_by", ""),
        "description": version.description,
        "tags": ", ".join(f"{key}={value}" for key, value in version.tags.items()),
        "fingerprint": version.fingerprint,
        "source": properties.get("source", ""),
        "git commit": properties.get("git_commit", ""),
        "files": properties.get("files", ""),
        "bytes": properties.get("bytes", ""),
        "images": properties.get("images", ""),
    }
    for key, value in rows.items():
        if value:
            typer.echo(f"{key + ':':13}{value}")
    counts = version.counts
    labels = sorted({label for of_split in counts.values() for label in of_split})
    if labels:
        typer.echo("")
        table = [{"class": label, **{split: counts[split].get(label, 0) for split in counts}} for label in labels]
        emit_table(table, as_json=False)


def _say_damage(version: Asset, damage: dict[str, list[str]]) -> None:
    from vision_mlops.data.folder_contents import worded

    if damage:
        say(f"\ndamaged: {version.reference} is not as it was registered: {worded(damage)}")
        say(f"  -> remove the folder {version.content.parent} and register the data again")
    else:
        say(f"\nverified: the files of {version.reference} are as they were registered")
