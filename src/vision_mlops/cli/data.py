"""``mlops data``: prepare images and look at what was prepared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vision_mlops.cli import transfer
from vision_mlops.cli.config import JsonOption, SetOption, WorkloadOption
from vision_mlops.cli.output import emit_json, emit_table, say, warn

app = typer.Typer(no_args_is_help=True, help="Prepare images, look at them, and bring them to and from storage.")
app.command("upload")(transfer.upload)
app.command("download")(transfer.download)


@app.command()
def prepare(
    workload: WorkloadOption = "textile",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default outputs/data/NAME.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of class folders to use instead.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where something would be left out.")] = False,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Check images, split them without leaks, and write train/val/test with a manifest.

    Example: `mlops data prepare --workload textile --out outputs/data/textile`
    """
    from rich.console import Console
    from rich.progress import Progress

    from vision_mlops import paths
    from vision_mlops.config import load_workload
    from vision_mlops.data.prepare import prepare as run

    loaded = load_workload(workload, set_ or ())
    target = out or paths.home() / "data" / loaded.name
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("checking images", total=None)
        result = run(
            loaded,
            target,
            images=images,
            strict=strict,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for text in result.warnings:
        warn(text)
    _print_counts(target, json_)
    say(f"{'unchanged' if result.reused else 'prepared'}: {target} (fingerprint {result.manifest.fingerprint[:12]})")


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="Prepared folder.")], json_: JsonOption = False) -> None:
    """Print the number of images per class and split.

    Example: `mlops data show outputs/data/textile`
    """
    _print_counts(folder, json_)


def _print_counts(folder: Path, as_json: bool) -> None:
    from vision_mlops.data.manifest import read_manifest

    manifest = read_manifest(folder)
    counts = manifest.counts()
    if as_json:
        excluded = [item.model_dump() for item in manifest.excluded]
        emit_json({"folder": folder, "fingerprint": manifest.fingerprint, "counts": counts, "excluded": excluded})
        return
    rows = [{"class": label, **{split: counts[split][label] for split in counts}} for label in manifest.classes]
    emit_table(rows, as_json=False)
