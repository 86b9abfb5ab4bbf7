"""``mlops export``: write a trained bundle in another precision."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import typer

from vision_mlops.cli.bundle_argument import BUNDLE_HELP, choose_bundle
from vision_mlops.cli.options import JsonOption, filled
from vision_mlops.cli.output import emit_json, fail, say
from vision_mlops.core.errors import TrainingError


def export(
    bundle: Annotated[str, typer.Argument(callback=filled, help=BUNDLE_HELP)],
    data: Annotated[Path, typer.Option(help="Prepared data: calibrate on train, judge on test.")],
    out: Annotated[Path, typer.Option(help="Folder to write the new bundle to.")],
    precision: Annotated[Literal["int8"], typer.Option(help="Precision of the new graph.")] = "int8",
    max_drop: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Largest loss of accuracy that is accepted, as a share."),
    ] = 0.005,
    images: Annotated[int, typer.Option(min=1, help="Maximum number of training images to calibrate on.")] = 300,
    json_: JsonOption = False,
) -> None:
    """Write a bundle in another precision if it is as good; otherwise write nothing and exit with code 1.

    Example: `mlops export textile@champion --data outputs/data/textile --out outputs/bundles/textile-int8`
    """
    from vision_mlops.training.quantization import quantize

    folder = choose_bundle(bundle).folder
    try:
        done = quantize(folder, data, out, max_drop=max_drop, images=images)
    except TrainingError as error:
        fail(str(error))
        raise typer.Exit(1) from error
    if json_:
        names = [item.name for item in fields(done) if item.name not in ("bundle", "folder")]
        emit_json({"bundle": str(out), "precision": precision, **{name: getattr(done, name) for name in names}})
        return
    say(f"accuracy {done.accuracy:.4f} after {done.source_accuracy:.4f}; {done.agreement:.2%} of the labels agree,")
    say(f"probabilities differ by up to {done.max_difference:.3f}")
    say(f"graph {done.graph_bytes / 1e6:.1f} MB after {done.source_bytes / 1e6:.1f}; {done.speedup:.2f} times as fast")
    typer.echo(str(out))
