"""``mlops data upload`` and ``mlops data download``: copy folders to and from Azure Blob Storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.options import DryRunOption, JsonOption, RunLocation
from vision_mlops.cli.output import emit_json, interruptible, say, transfer_bar

if TYPE_CHECKING:
    from vision_mlops.storage import TransferSummary

_SHOWN = 20
_PLACE = (
    "https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH, azureml://datastores/NAME/paths/PATH or datastore:NAME/PATH."
)
_CONTINUES = "the same command continues where it stopped"
DeleteOption = Annotated[
    bool, typer.Option("--delete", help="Delete files at the destination that the source does not have, at the end.")
]
DeleteAllOption = Annotated[
    bool, typer.Option("--delete-all", help="Like --delete, even if no file at the destination would be left.")
]
ChecksumOption = Annotated[
    bool, typer.Option("--checksum", help="Compare the content of all files, not their size and time.")
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, max=256, help="Number of parallel requests.", show_default="16")
]


def upload(
    folder: Annotated[Path, typer.Argument(help="Folder to upload.")],
    to: Annotated[str, typer.Option(help=f"Destination: {_PLACE}")],
    delete: DeleteOption = False,
    delete_all: DeleteAllOption = False,
    checksum: ChecksumOption = False,
    dry_run: DryRunOption = False,
    create_container: Annotated[
        bool, typer.Option("--create-container", help="Create the container if it does not exist.")
    ] = False,
    jobs: JobsOption = None,
    json_: JsonOption = False,
) -> None:
    """Upload a folder to Blob Storage: only files whose content differs.

    An interrupted upload continues where it stopped. It signs in with `az login` and the like, or with
    AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING from the environment. Exit code 1 if some files failed, 2 if
    it could not continue.

    Example: `mlops data upload photos --to azureml://datastores/workspaceblobstore/paths/photos`
    """
    from vision_mlops import storage

    with interruptible(lambda: _CONTINUES):
        place = storage.locate(to)
        say(f"uploading {folder} to {place.url}")
        with transfer_bar("uploading") as progress:
            summary = storage.upload(
                folder, place, delete=delete, delete_all=delete_all, checksum=checksum, dry_run=dry_run,
                create_container=create_container, jobs=jobs, progress=progress,
            )  # fmt: skip
    _report(summary, json_)


def download(
    from_: Annotated[
        str, typer.Option("--from", help=f"Source: azureml:NAME:VERSION of data registered in Azure, {_PLACE}")
    ],
    out: Annotated[Path, typer.Option(help="Folder to download to; created if it does not exist.")],
    delete: DeleteOption = False,
    delete_all: DeleteAllOption = False,
    checksum: ChecksumOption = False,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    json_: JsonOption = False,
) -> None:
    """Download a folder from Blob Storage: only files whose content differs; each is verified, then moved into place.

    The reverse of `mlops data upload`.

    Example: `mlops data download --from azureml://datastores/workspaceblobstore/paths/photos --out photos`
    """
    from vision_mlops import storage

    with interruptible(lambda: _CONTINUES):
        place = storage.locate(_registered(from_))
        say(f"downloading {place.url} to {out}")
        with transfer_bar("downloading") as progress:
            summary = storage.download(
                place, out, delete=delete, delete_all=delete_all, checksum=checksum, dry_run=dry_run, jobs=jobs,
                progress=progress,
            )  # fmt: skip
    _report(summary, json_)


def _registered(place: str) -> str:
    """Return the address of data registered in the workspace; any other place unchanged."""
    from vision_mlops.cli.data.image_location import is_registered
    from vision_mlops.cli.data.versions import find_version

    return find_version(place, RunLocation.AZURE).path if is_registered(place) else place


def _report(summary: TransferSummary, as_json: bool) -> None:
    if summary.dry_run and not as_json:
        for name in summary.to_delete:
            say(f"would delete {name}")
    for name, reason in sorted(summary.failures.items())[:_SHOWN]:
        say(f"failed: {name!r}: {reason}")
    if len(summary.failures) > _SHOWN:
        say(f"... and {len(summary.failures) - _SHOWN} more; --json names all")
    say(summary.text())
    if as_json:
        emit_json(summary.to_dict())
    if not summary.ok:
        say("  -> run the same command again; transferred files are not transferred again")
        raise typer.Exit(1)
