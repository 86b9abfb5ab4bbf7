"""``mlops train``: fine-tune and export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli.data.workload_choice import workload_named
from vision_mlops.cli.options import ChosenWorkloadOption, SetOption
from vision_mlops.cli.output import say
from vision_mlops.core.text import counted


def train(
    data: Annotated[Path, typer.Option(help="Prepared data.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model bundle to.")],
    workload: ChosenWorkloadOption = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run at its last epoch.")] = False,
    auto_resume: Annotated[
        bool,
        typer.Option(
            "--auto-resume", help="Resume a run of these settings if one was interrupted; otherwise start a new one."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for checkpoints until the bundle is complete.",
            show_default="next to the bundle",
        ),
    ] = None,
) -> None:
    """Fine-tune a pretrained network and write a model bundle.

    Example: `mlops train --data outputs/data/textile --out outputs/bundles/textile --set training.epochs=4`

    With several processes: `torchrun --nproc-per-node 2 -m vision_mlops train --data D --out B`
    """
    from vision_mlops.config import load_workload
    from vision_mlops.data.manifest import read_manifest

    manifest = read_manifest(data)  # before torch is loaded, so that a wrong path is reported at once
    loaded = load_workload(workload_named(workload, manifest.name), set_ or ())
    from vision_mlops.training.checkpoints import TrainingFolder
    from vision_mlops.training.fit import fit
    from vision_mlops.training.mlflow_callback import EpochLines
    from vision_mlops.training.training_runtime import rank

    interrupted = TrainingFolder(out.absolute(), loaded, manifest, checkpoints)
    if auto_resume:
        resume, overwrite = interrupted.resumable, True
        if resume and rank() == 0:
            say("continuing the interrupted training")
    settings = loaded.training
    if settings.augment.transform and settings.cache_prefix and loaded.model.frozen_stages and rank() == 0:
        say("note: training.augment.transform changes every batch, so frozen stages are computed again in each epoch")
    try:
        progress = sys.stderr.isatty()
        lines = () if progress else (EpochLines(say),)
        fitted = fit(
            loaded,
            data,
            out,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            callbacks=lines,
            kept_in=checkpoints,
        )
    except KeyboardInterrupt:
        if interrupted.resumable:
            how = "" if auto_resume else " with --resume"
            say(f"finished epochs are kept: the same command{how} continues from there")
        raise
    if fitted is None:
        return
    bundle = fitted.bundle
    say(
        f"trained {counted(fitted.epochs, 'epoch', 'epochs')} in {fitted.train_seconds:.0f} s"
        f" ({fitted.images_per_second:.0f} images/s);"
        f" validation accuracy {bundle.metrics['val_accuracy']:.4f}, test accuracy {bundle.metrics['test_accuracy']:.4f}"
    )
    parity = bundle.parity
    say(f"export agrees on {parity['agreement']:.1%} of labels, within {parity['max_difference']:.4f} in probability")
    typer.echo(fitted.folder)
