"""``mlops data add-labels``: add corrections of the web frontend to the data, as a new version."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.data.image_location import is_registered, title_of
from vision_mlops.cli.data.versions import find_version
from vision_mlops.cli.data.workload_choice import workload_named
from vision_mlops.cli.options import DEFAULT_WORKLOAD, DryRunOption, JsonOption, RunLocation, filled
from vision_mlops.cli.output import count_bar, emit_json, emit_table, say, warn
from vision_mlops.core import paths
from vision_mlops.core.errors import DataError
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.data.corrected_labels import CorrectedLabel
    from vision_mlops.data.label_additions import LabelAdditions
    from vision_mlops.flask_app.corrections.correction_store import CorrectionStore

_FOR_A_PERSON = ("none-of-these", "conflict", "other-label", "unusable")
_SHOWN = 20


def add_labels(
    corrections: Annotated[
        str,
        typer.Argument(
            callback=filled,
            metavar="CORRECTIONS",
            help="Folder or Blob Storage address where the web frontend stores corrections.",
        ),
    ],
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            "-w",
            help="Workload whose data and limits apply.",
            show_default=f"that of --base, else {DEFAULT_WORKLOAD}",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Prepared or registered data to add to.",
            show_default="the newest version of the workload's data asset, else its prepared data",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the data asset.", show_default="that of --base or the workload"),
    ] = None,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="Also add classes that the data does not have.")
    ] = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Add corrected images to the data, as the next version of its data asset.

    They are added to train, never to val or test. Images that val or test have, even approximately, are left out, and so are
    images that train has already, that people disagree about, or that belong to no class. A second run adds nothing.

    Example: `mlops data add-labels outputs/corrections --workload textile`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.data import label_additions
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.flask_app.corrections.correction_store import open_store

    if base is None:
        loaded = load_workload(workload or DEFAULT_WORKLOAD)
        folder, reference = _newest(workload or DEFAULT_WORKLOAD, name or loaded.name, loaded.name)
    else:
        folder, reference = _named(base)
        loaded = load_workload(workload_named(workload, read_manifest(folder).name))
    known = reference or str(folder)
    with closing(open_store(corrections)) as store, TemporaryDirectory() as scratch:
        labels = _read(store)
        images = len({label.sha256 for label in labels})
        say(f"{counted(len(labels), 'correction')} of {counted(images, 'image')}, for {known}")
        with count_bar("comparing images", "checking the new version") as progress:
            found = label_additions.add_labels(
                folder,
                labels,
                Path(scratch),
                workload=loaded,
                new_classes=new_classes,
                source=f"{known} with corrections of {corrections}",
                progress=progress,
            )
        new, version = False, reference
        if found.folder is not None and not dry_run:
            asset = name or (title_of(reference) if reference else loaded.name)
            new, version = _register(found.folder, asset, len(found.added))
    if json_:
        facts = {"base": known, "reference": version, "new": new, "dry_run": dry_run, "corrections": len(labels)}
        emit_json({**facts, "images": images, **_as_json(found)})
    else:
        _print(found)
    more = counted(len(found.added), "image")
    if found.folder is None:
        say(f"nothing new: {known} is unchanged")
    elif dry_run:
        say(f"would add {more}; nothing was registered")
    else:
        say(f"{'registered' if new else 'unchanged'}: {version}, which has {more} more than {known}")
        say(f"  -> mlops run --workload {workload or loaded.name} --images {version}")


def _named(base: str) -> tuple[Path, str]:
    """Return the folder of prepared or registered data, and the reference of the latter."""
    if not is_registered(base):
        return Path(base), ""
    version = find_version(base, RunLocation.LOCAL)
    return version.content, version.reference


def _newest(workload: str, asset: str, name: str) -> tuple[Path, str]:
    """Return what the workload's next training would use: the newest version of its data asset, else its prepared data."""
    from vision_mlops.data import asset_store, data_versions
    from vision_mlops.data.manifest import MANIFEST, read_manifest

    prepared = paths.home() / "data" / name
    known = data_versions.versions(asset)
    if not known:
        if not prepared.is_dir():
            raise DataError(
                f"no data asset {asset!r} is registered, and {prepared} has no prepared data",
                f"run `mlops data prepare --workload {workload}` first, or name one with --base",
            )
        return prepared, ""
    newest = asset_store.newest(known)
    if (newest.content / MANIFEST).is_file():
        return newest.content, newest.reference
    if (prepared / MANIFEST).is_file() and read_manifest(prepared).source == newest.reference:
        return prepared, ""
    raise DataError(
        f"{newest.reference} is not prepared: it is not known which of its images are for testing",
        f"run `mlops data prepare --workload {workload} --images {newest.reference}` first",
    )


def _read(store: CorrectionStore) -> list[CorrectedLabel]:
    from vision_mlops.data.corrected_labels import CorrectedLabel

    return [
        CorrectedLabel(item.sha256, item.suffix, item.label, item.who, item.moment, partial(store.image, item))
        for item in store.list()
    ]


def _register(folder: Path, asset: str, added: int) -> tuple[bool, str]:
    """Register the new version; return whether it is new, and its reference."""
    from vision_mlops.data import data_versions
    from vision_mlops.data.folder_contents import describe

    with count_bar("copying files") as progress:
        version, new = data_versions.register(
            describe(folder), asset, tags={"corrections": str(added)}, progress=progress
        )
    return new, version.reference


def _as_json(found: LabelAdditions) -> dict[str, Any]:
    return {
        "added": dict(Counter(record.label for record in found.added)),
        "not_added": dict(Counter(item.reason for item in found.left_out)),
        "files": [record.path for record in found.added],
        "left_out": found.left_out,
        "warnings": found.warnings,
    }


def _print(found: LabelAdditions) -> None:
    rows = [{"class": label, "added": count} for label, count in Counter(item.label for item in found.added).items()]
    if rows:
        emit_table(sorted(rows, key=lambda row: str(row["class"])), as_json=False)
    for reason, count in sorted(Counter(item.reason for item in found.left_out).items()):
        say(f"not added, {reason}: {counted(count, 'image')}")
    told = [item.message for item in found.left_out if item.reason in _FOR_A_PERSON] + found.warnings
    for message in told[:_SHOWN]:
        warn(message)
    if len(told) > _SHOWN:
        say(f"... and {len(told) - _SHOWN} more; --json names all")
