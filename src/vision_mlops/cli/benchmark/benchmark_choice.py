"""Finds what a benchmark is about: a workload with its prepared data, or the name of one that has results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.output import count_bar, say, warn
from vision_mlops.core import paths
from vision_mlops.core.errors import MlopsError

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload

PricesOption = Annotated[
    Path | None,
    typer.Option("--prices", help="YAML file with your own prices.", show_default="the table that ships"),
]


def prepared_data(
    workload: str | None, data: Path | None, images: str | None, set_: Sequence[str]
) -> tuple[Workload, Path]:
    """Return the workload, and its images prepared as `mlops run` prepares them, reused if nothing has changed.

    Args:
        workload: As given by ``--workload``.
        data: Prepared data to use instead.
        images: As given by ``--images``.
        set_: As given by ``--set``.

    Raises:
        MlopsError: both data and images are given, or they cannot be used.
    """
    from vision_mlops.cli.data.image_location import images_here
    from vision_mlops.cli.data.workload_choice import workload_named
    from vision_mlops.cli.jobs.run import workload_for
    from vision_mlops.config import load_workload
    from vision_mlops.data.manifest import read_manifest
    from vision_mlops.data.prepare import prepare

    if data is not None:
        if images is not None:
            raise MlopsError(
                "--data and --images are both given",
                "prepared data already contains its images; remove one of the two options",
            )
        prepared_for = read_manifest(data).name
        loaded = load_workload(workload_named(workload, prepared_for), set_)
        if loaded.name != prepared_for:
            warn(
                f"{data} was prepared for the workload {prepared_for!r}; its results are kept as those of {loaded.name!r}"
                " and replace earlier ones"
            )
        return loaded, data
    loaded = workload_for(workload, images, set_)
    folder, reference = images_here(loaded, images)
    target = paths.home() / "data" / loaded.name
    with count_bar("checking images") as progress:
        result = prepare(loaded, target, images=folder, named=reference, progress=progress)
    for text in result.warnings:
        warn(text)
    say(f"{'unchanged' if result.reused else 'prepared'}: {target} (fingerprint {result.manifest.fingerprint[:12]})")
    return loaded, target


def benchmark_name(reference: str) -> tuple[str, float]:
    """Return the name under which results of a workload are kept, and the significance level of its paired test.

    A workload may have results but no file: a shipped one that was run with the images of a folder has the folder's name.
    """
    from vision_mlops.config import load_workload
    from vision_mlops.config.workload import NAME, Gate
    from vision_mlops.config.workload_files import list_workloads

    has_results = re.fullmatch(NAME, reference) and (paths.home() / "benchmarks" / reference).is_dir()
    if has_results and reference not in list_workloads():
        return reference, Gate().significance
    loaded = load_workload(reference)
    return loaded.name, loaded.gate.significance
