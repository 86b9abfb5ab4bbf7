"""``mlops batch``: score many images at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle, registered_bundle
from vision_mlops.cli.options import JsonOption, RunLocation, filled
from vision_mlops.cli.output import count_bar, emit_json, say, warn
from vision_mlops.core.errors import DataError, MissingExtraError, MlopsError
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.batch.batch_scoring import BatchSummary
    from vision_mlops.batch.image_sources import Images
    from vision_mlops.model.predictor import Precision

app = typer.Typer(no_args_is_help=True, help="Score many images at once.")


@app.callback()
def _group() -> None:
    """Keep ``score`` a command of its own, although it is the only one."""


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
    out: Annotated[Path | None, typer.Option("--out", help="File to write: .csv or .parquet.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="`NAME` (latest), `NAME:3` or `NAME@champion`.")] = "",
    bundle: Annotated[str | None, typer.Option("--bundle", help=BUNDLE_HELP)] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=256, help="Processes.", show_default="one per core")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, max=256, help="Images that one computes at once.", show_default="4"),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="auto (the processor's fastest) or f32 (the same on all machines).")
    ] = "auto",
    workload: Annotated[
        str,
        typer.Option("--workload", help="Workload whose `data.max_pixels` is the largest image.", show_default="none"),
    ] = "",
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an interrupted run has done.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
    fail_on_error: Annotated[
        bool, typer.Option("--fail-on-error", help="Exit code 1 where an image could not be scored.")
    ] = False,
    on: Annotated[str, typer.Option("--on", help="local, or azure: at a batch endpoint.")] = "local",
    endpoint: Annotated[str, typer.Option("--endpoint", "-e", help="With --on azure: the batch endpoint.")] = "",
    json_: JsonOption = False,
) -> None:
    """Score all images of a folder or container into one table, a row each in the order of their paths.

    Interrupted, by Ctrl-C or otherwise, the same command goes on where it was. Images that cannot be read are listed in
    OUT.errors.csv and stop nothing.

    Example: `mlops batch score data/examples --model textile@champion --out outputs/scores.csv`
    """
    if on == "azure":
        given = {
            "--model": model, "--bundle": bundle, "--workers": workers, "--batch-size": batch_size,
            "--workload": workload, "--restart": restart, "--overwrite": overwrite, "--fail-on-error": fail_on_error,
        }  # fmt: skip
        if unknown := [name for name, value in given.items() if value]:
            raise MlopsError(
                f"--on azure: {', '.join(unknown)} means nothing there", "the endpoint has a model of its own"
            )
        _score_on_azure(images, out, endpoint, json_)
        return
    if on != "local" or endpoint:
        raise MlopsError(
            f"--on {on}{' --endpoint' if endpoint else ''}: not possible", "use --on azure --endpoint NAME"
        )
    if out is None:
        raise MlopsError("--out is missing", "name a file with .csv or .parquet")
    if (bundle is None) == (not model):
        raise MlopsError("which model?", "give either --model NAME@champion or --bundle PATH")
    from vision_mlops.batch import batch_scoring as batch
    from vision_mlops.images.decoding import MAX_PIXELS
    from vision_mlops.registry.version_index import warning_about_folder

    options = batch.BatchOptions(
        workers=workers or 0,
        batch_size=batch_size or batch.BATCH_SIZE,
        precision=_precision(precision),
        max_pixels=_max_pixels(workload) or MAX_PIXELS,
        restart=restart,
        overwrite=overwrite,
    )
    with _interruptible(out):
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


def _precision(text: str) -> Precision:
    if text not in ("auto", "f32"):
        raise DataError(f"unknown --precision {text!r}", "give auto or f32")
    return cast("Precision", text)


def _max_pixels(workload: str) -> int:
    from vision_mlops.config import load_workload

    return load_workload(workload).data.max_pixels if workload else 0


def _report(summary: BatchSummary, as_json: bool) -> None:
    if summary.errors:
        warn(
            f"{summary.errors} of {counted(summary.images, 'image')} could not be scored: {summary.errors_file} lists them"
        )
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


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from vision_mlops.batch.batch_scoring import partial_folder

        kept = partial_folder(out).is_dir()
        say("interrupted; the same command goes on where it was" if kept else "interrupted; nothing was done yet")
        raise typer.Exit(130) from None


def _score_on_azure(images: str, out: Path | None, endpoint: str, as_json: bool) -> None:
    """Let a batch endpoint score, which runs the same rows' code; the result is a line of JSON for each image."""
    import importlib

    if not endpoint or out is None:
        raise MlopsError("--on azure needs --endpoint and --out", "mlops deploy --to batch makes an endpoint")
    module = "vision_mlops.endpoints.azureml.batch_jobs"
    try:
        score_on_azure = importlib.import_module(module).score_on_azure
    except ModuleNotFoundError as error:
        if error.name != module:
            raise MissingExtraError(error.name or "azure", "azure") from error
        raise MlopsError("--on azure: this installation has no batch endpoints", "leave --on out") from error
    made = score_on_azure(endpoint, images, out, on_line=say)
    if as_json:
        emit_json({"job": made.job.to_dict(), "out": str(made.file)})
        return
    typer.echo(str(made.file))
