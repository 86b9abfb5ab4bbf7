"""``mlops benchmark export`` and ``import``: exchange a result as one file, with a team that cannot measure it itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.benchmark.benchmark_choice import benchmark_name
from vision_mlops.cli.options import DEFAULT_WORKLOAD, WorkloadOption
from vision_mlops.cli.output import say
from vision_mlops.core import paths


def export(
    name: Annotated[str, typer.Option("--with", metavar="NAME", help="Contestant whose result to export.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    workload: WorkloadOption = DEFAULT_WORKLOAD,
) -> None:
    """Write the result of a contestant, with its prediction of each test image, into one file.

    The file has the names and classes of the test images, but no images.

    Example: `mlops benchmark export --workload textile --with custom-vision --out custom-vision.json`
    """
    from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
    from vision_mlops.benchmark.result_exchange import export_result

    typer.echo(export_result(BenchmarkFolder(benchmark_name(workload)[0]), name, out))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that `mlops benchmark export` wrote.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared data that the result must belong to.", show_default="outputs/data/WORKLOAD"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a result of the contestant that was measured here.")
    ] = False,
) -> None:
    """Import a result that was measured elsewhere, on exactly the data that is prepared here.

    Its metrics are computed again from its predictions. Tables mark it with the day on which it was measured.

    Example: `mlops benchmark import custom-vision.json`
    """
    from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
    from vision_mlops.benchmark.result_exchange import import_result, read_exported
    from vision_mlops.data.manifest import read_manifest

    workload = read_exported(file)[0].workload
    manifest = read_manifest(data or paths.home() / "data" / workload)
    result = import_result(file, BenchmarkFolder(workload), manifest, overwrite=overwrite)
    say(
        f"imported {result.name} on {workload}, recorded on {result.recorded}: accuracy {result.metrics['accuracy']:.4f};"
        f" `mlops benchmark report --workload {workload}` shows it"
    )
