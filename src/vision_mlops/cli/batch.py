"""``mlops batch``: score many images at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle, registered_bundle
from vision_mlops.cli.options import JsonOption, ModelOption, OnOption, PrecisionOption, RunLocation, filled
from vision_mlops.cli.output import count_bar, emit, emit_json, interruptible, say, warn
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.batch.batch_scoring import BatchSummary
    from vision_mlops.batch.image_sources import Images

app = typer.Typer(no_args_is_help=True)


@app.command("score")
def score(
    images: Annotated[
        str,
        typer.Argument(
            callback=filled,
            metavar="IMAGES",
            help="Folder, `azureml:NAME:VERSION` of registered data, or address of a folder in Blob Storage.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write: .csv or .parquet.")] = None,
    model: ModelOption = "",
    bundle: Annotated[str | None, typer.Option(help=BUNDLE_HELP)] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Number of processes.", show_default="one per core")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Number of images that a process computes at once.", show_default="4"),
    ] = None,
    precision: PrecisionOption = "auto",
    workload: Annotated[
        str,
        typer.Option(help="Workload whose `data.max_pixels` limits the images.", show_default="none"),
    ] = "",
    restart: Annotated[bool, typer.Option("--restart", help="Discard the results of an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    fail_on_error: Annotated[
        bool, typer.Option("--fail-on-error", help="Exit with code 1 if an image could not be scored.")
    ] = False,
    on: OnOption = RunLocation.LOCAL,
    endpoint: Annotated[str, typer.Option("--endpoint", "-e", help="With --on azure: the batch endpoint.")] = "",
    json_: JsonOption = False,
) -> None:
    """Score all images of a folder or container into one table, with a row for each in the order of their paths.

    If it is interrupted, by Ctrl-C or otherwise, the same command continues where it stopped. Images that cannot be read are
    listed in OUT.errors.csv and do not stop the others.

    Example: `mlops batch score data/examples --model textile@champion --out outputs/scores.csv`
    """
    if on is RunLocation.AZURE:
        given = {
            "--model": model, "--bundle": bundle, "--workers": workers, "--batch-size": batch_size,
            "--workload": workload, "--restart": restart, "--overwrite": overwrite, "--fail-on-error": fail_on_error,
        }  # fmt: skip
        if unknown := [name for name, value in given.items() if value]:
            raise MlopsError(
                f"{', '.join(unknown)} cannot be used with --on azure",
                "the endpoint has a model and settings of its own",
            )
        if not endpoint or out is None:
            raise MlopsError("--on azure needs --endpoint and --out", "mlops deploy --to batch creates an endpoint")
        from vision_mlops.endpoints.azureml.batch_jobs import score_on_azure

        made = score_on_azure(endpoint, images, out, on_line=say)
        emit({"job": made.job.to_dict(), "out": str(made.file)}, str(made.file), as_json=json_)
        return
    if endpoint:
        raise MlopsError("--endpoint needs --on azure", "use --on azure --endpoint NAME, or remove --endpoint")
    if out is None:
        raise MlopsError("--out is missing", "name a file with .csv or .parquet")
    if (bundle is None) == (not model):
        raise MlopsError("no model is given, or two", "give either --model NAME@champion or --bundle PATH")
    from vision_mlops.batch import batch_scoring as batch
    from vision_mlops.config import load_workload
    from vision_mlops.images.decoding import MAX_PIXELS
    from vision_mlops.registry.version_index import warning_about_folder

    def kept() -> str:
        if batch.partial_folder(out).is_dir():
            return "the same command continues where it stopped"
        return "nothing was done yet"

    options = batch.BatchOptions(
        workers=workers or 0,
        batch_size=batch_size or batch.BATCH_SIZE,
        precision=precision,
        max_pixels=load_workload(workload).data.max_pixels if workload else MAX_PIXELS,
        restart=restart,
        overwrite=overwrite,
    )
    with interruptible(kept):
        chosen = choose_bundle(bundle) if bundle is not None else registered_bundle(model)
        if warning := chosen.warning if chosen.name else warning_about_folder(chosen.folder):
            warn(warning)
        with count_bar("scoring", "writing") as progress:
            summary = batch.score(
                _images(images), chosen.folder, out, name=chosen.name, version=chosen.version, options=options,
                progress=progress,
            )  # fmt: skip
    _report(summary, json_)
    if fail_on_error and summary.errors:
        raise typer.Exit(1)


def _images(text: str) -> Images:
    from vision_mlops.batch.image_sources import Folder
    from vision_mlops.cli.data.image_location import is_registered

    if is_registered(text):
        from vision_mlops.cli.data.versions import find_version

        return Folder(Path(find_version(text, RunLocation.LOCAL).path))
    if "://" in text or text.startswith("datastore:"):
        from vision_mlops import storage
        from vision_mlops.batch.blob_images import BlobImages

        return BlobImages(storage.locate(text))
    return Folder(Path(text).expanduser())


def _report(summary: BatchSummary, as_json: bool) -> None:
    if summary.errors:
        warn(f"{summary.errors} of {counted(summary.images, 'image')} could not be scored; see {summary.errors_file}")
    if summary.skipped:
        more = f"; and {summary.skipped - len(summary.skipped_files)} more"
        named = "; ".join(summary.skipped_files) + (more if summary.skipped > len(summary.skipped_files) else "")
        warn(f"{counted(summary.skipped, 'file')} skipped: {named}")
    if as_json:
        emit_json(summary.to_dict())
        return
    resumed = f", {summary.resumed} of them before" if summary.resumed else ""
    skipped = f", {counted(summary.skipped, 'other file')} skipped" if summary.skipped else ""
    say(
        f"{counted(summary.images, 'image')}{resumed}, {counted(summary.errors, 'error')}{skipped}:"
        f" {summary.seconds:.1f} s, {summary.images_per_second:.0f} images/s"
    )
    for label, number in summary.labels.items():
        say(f"  {label}: {number}")
    typer.echo(summary.out)
