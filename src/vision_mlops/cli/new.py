"""``mlops new``: write a workload file for a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.options import JsonOption, filled
from vision_mlops.cli.output import emit_json, emit_table, say, warn
from vision_mlops.core.errors import ConfigError
from vision_mlops.core.files import atomic_write

if TYPE_CHECKING:
    from vision_mlops.data.overview import FolderOverview


def new(
    name: Annotated[
        str, typer.Argument(callback=filled, metavar="NAME", help="Name of the workload: lower case, digits, - and _.")
    ],
    images: Annotated[Path, typer.Option(help="Folder with one sub-folder of images per class.")],
    title: Annotated[str, typer.Option(help="Title for people.", show_default="the name")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing workload of that name.")] = False,
    json_: JsonOption = False,
) -> None:
    """Write `workloads/NAME.yml` for a folder of images: classes, image size, batch size and first floors of the gate.

    It reads only names and headers, and changes nothing in the folder. The values are a start; the file explains each of
    them. `mlops data check DIR` examines the images.

    Example: `mlops new birds --images photos/birds`
    """
    from vision_mlops.config.workload import Data
    from vision_mlops.config.workload_files import own_workload, parse_workload, shipped_workloads
    from vision_mlops.data.overview import left_out, look_at
    from vision_mlops.data.workload_draft import workload_text

    target = own_workload(name)
    if name in shipped_workloads():
        raise ConfigError(f"{name!r} is the name of a shipped workload", "choose another name")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists already", "choose another name, or give --overwrite")
    look = look_at(images, Data().min_images_per_class)
    text = workload_text(
        name, title or name.replace("-", " ").replace("_", " ").capitalize(), _path(images, look), look
    )
    workload = parse_workload(text, str(target))
    atomic_write(target, text)
    for message in left_out(look, workload.data.min_images_per_class):
        warn(message)
    if json_:
        emit_json({"file": target, "workload": workload.model_dump(), "counts": look.counts, "splits": look.splits})
        return
    emit_table([{"class": label, "images": count} for label, count in look.counts.items()], as_json=False)
    say(f"\nwrote {target}; review it, then continue with\n  mlops run --workload {name}")


def _path(images: Path, look: FolderOverview) -> str:
    """Return the folder as the workload names it: relative to the current folder if it, or a link to it, is below that."""
    here = Path.cwd().resolve()
    for folder in (here / images.expanduser(), look.folder):
        if folder.is_relative_to(here) and ".." not in folder.parts:
            return str(folder.relative_to(here))
    return str(look.folder)
