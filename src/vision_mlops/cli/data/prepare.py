"""``mlops data prepare``: check images, split them, and write them for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.data import versions
from vision_mlops.cli.data.image_location import images_here, workload_of
from vision_mlops.cli.options import ChosenWorkloadOption, ImagesOption, JsonOption, SetOption
from vision_mlops.cli.output import count_bar, say, warn
from vision_mlops.core import paths


def prepare(
    workload: ChosenWorkloadOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="outputs/data/NAME")] = None,
    images: ImagesOption = None,
    source: Annotated[
        str,
        typer.Option(help="Record this as the source of the images in the manifest.", show_default="FOLDER"),
    ] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if an image would be left out.")] = False,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Check images, split them without leaks, and write train/val/test with a manifest.

    Example: `mlops data prepare --workload textile --out outputs/data/textile`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.data.prepare import prepare as run

    loaded = load_workload(workload_of(workload, images, needed=False), set_ or ())
    folder, reference = images_here(loaded, images)
    target = out or paths.home() / "data" / loaded.name
    with count_bar("checking images") as progress:
        result = run(loaded, target, images=folder, named=source or reference, strict=strict, progress=progress)
    for text in result.warnings:
        warn(text)
    versions.print_counts(target, as_json=json_)
    say(f"{'unchanged' if result.reused else 'prepared'}: {target} (fingerprint {result.manifest.fingerprint[:12]})")
