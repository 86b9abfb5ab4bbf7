"""What benchmarks are about: the workload with its prepared data, or the name of one that has results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.output import count_bar, say, warn

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload

PricesOption = Annotated[
    Path | None,
    typer.Option("--prices", help="YAML file with prices of your own.", show_default="the table that ships"),
]


def prepared_data(
    workload: str | None, data: Path | None, images: str | None, set_: Sequence[str]
) -> tuple[Workload, Path]:
    """The workload, and its images prepared as `mlops run` prepares them; those of before where nothing has changed.

    Args:
        workload: As given by ``--workload``.
        data: Prepared data to take instead.
        images: As given by ``--images``.
        set_: As given by ``--set``.

    Raises:
        MlopsError: both data and images are given, or they cannot be used.
    """
    from vision_mlops.cli.data.image_location import images_here
    from vision_mlops.cli.data.workload_choice import workload_named
    from vision_mlops.cli.jobs.run import workload_for
    from vision_mlops.config import load_workload
    from vision_mlops.core import paths
    from vision_mlops.core.errors import MlopsError
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
                f"{data} was prepared for the workload {prepared_for!r}; its results are kept as those of {loaded.name!r},"
                " in the place of earlier ones"
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
    """The name under which results of a workload are kept, and the level of its paired test.

    A workload may have results without a file here: a shipped one that was run with the images of a folder has its name.
    """
    from vision_mlops.config import load_workload
    from vision_mlops.config.workload import NAME, Gate
    from vision_mlops.config.workload_files import list_workloads
    from vision_mlops.core import paths

    has_results = re.fullmatch(NAME, reference) and (paths.home() / "benchmarks" / reference).is_dir()
    if has_results and reference not in list_workloads():
        return reference, Gate().significance
    loaded = load_workload(reference)
    return loaded.name, loaded.gate.significance


def report_file(path: Path) -> Path:
    """A file to write a report to. Raises MlopsError where that is a folder: before anything is trained."""
    from vision_mlops.core.errors import MlopsError

    if path.is_dir():
        raise MlopsError(f"{path} is a folder", "give the file of the report, such as benchmark.html")
    return path
