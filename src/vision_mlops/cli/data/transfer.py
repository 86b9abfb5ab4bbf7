"""``mlops data upload`` and ``mlops data download``: folders of files in Azure Blob Storage."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.options import JsonOption
from vision_mlops.cli.output import emit_json, say

if TYPE_CHECKING:
    from vision_mlops.storage import Progress, TransferSummary

_SHOWN = 20
_PLACE = (
    "https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH, azureml://datastores/NAME/paths/PATH or datastore:NAME/PATH."
)
ChecksumOption = Annotated[bool, typer.Option("--checksum", help="Read all files; trust neither size nor time.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
JobsOption = Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Requests at once; default 16.")]


def upload(
    folder: Annotated[Path, typer.Argument(help="Folder to send.")],
    to: Annotated[str, typer.Option("--to", help=f"Where to: {_PLACE}")],
    delete: Annotated[
        bool, typer.Option("--delete", help="At the end, remove from storage what is not in FOLDER.")
    ] = False,
    delete_all: Annotated[
        bool, typer.Option("--delete-all", help="As --delete, also where no file in storage would stay.")
    ] = False,
    checksum: ChecksumOption = False,
    dry_run: DryRunOption = False,
    create_container: Annotated[
        bool, typer.Option("--create-container", help="Make the container where it does not exist.")
    ] = False,
    jobs: JobsOption = None,
    json_: JsonOption = False,
) -> None:
    """Send a folder to Blob Storage: only what differs, by content.

    Interrupted, it goes on where it was. Signs in with `az login` and its like, or with AZURE_STORAGE_SAS_TOKEN or
    AZURE_STORAGE_CONNECTION_STRING from the environment. Exit code 1 where single files failed, 2 where nothing could go on.

    Example: `mlops data upload photos --to azureml://datastores/workspaceblobstore/paths/photos`
    """
    from vision_mlops import storage

    with _interruptible():
        place = storage.locate(to)
        say(f"uploading {folder} to {place.url}")
        with progress_bar("uploading") as progress:
            summary = storage.upload(
                folder,
                place,
                delete=delete,
                delete_all=delete_all,
                checksum=checksum,
                dry_run=dry_run,
                create_container=create_container,
                jobs=jobs,
                progress=progress,
            )
    _report(summary, json_)


def download(
    from_: Annotated[
        str, typer.Option("--from", help=f"Where from: azureml:NAME:VERSION of data registered in Azure, {_PLACE}")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to fetch into; made where it does not exist.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="At the end, remove from the folder --out what is not in storage.")
    ] = False,
    delete_all: Annotated[
        bool, typer.Option("--delete-all", help="As --delete, also where no file in the folder --out would stay.")
    ] = False,
    checksum: ChecksumOption = False,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    json_: JsonOption = False,
) -> None:
    """Fetch a folder from Blob Storage: only what differs, by content; each file is checked, then moved into place.

    The mirror of `mlops data upload`.

    Example: `mlops data download --from azureml://datastores/workspaceblobstore/paths/photos --out photos`
    """
    from vision_mlops import storage

    with _interruptible():
        place = storage.locate(_registered(from_))
        say(f"downloading {place.url} to {out}")
        with progress_bar("downloading") as progress:
            summary = storage.download(
                place,
                out,
                delete=delete,
                delete_all=delete_all,
                checksum=checksum,
                dry_run=dry_run,
                jobs=jobs,
                progress=progress,
            )
    _report(summary, json_)


def _registered(place: str) -> str:
    """Where registered data of the workspace lies; any other place as it is."""
    if not place.startswith("azureml:") or place.startswith("azureml://"):
        return place
    from vision_mlops.azure.clients import check_workspace, ml_client
    from vision_mlops.config.azure_settings import load_azure_settings
    from vision_mlops.jobs.azureml.data_assets import find

    settings = load_azure_settings()
    client = ml_client(settings)
    check_workspace(client, settings)
    return find(client, place, say=say).path


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
        say("  -> run the same command again: what was transferred is not transferred again")
        raise typer.Exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it was")
        raise typer.Exit(130) from None


@contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, files="")

        def told(files: int, of_files: int, size: int, of_size: int) -> None:
            bar.update(task, completed=size, total=of_size or None, files=f"{files}/{of_files} files")

        yield told
