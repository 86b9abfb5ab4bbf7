"""``mlops data check``: report what is wrong with a folder of images, as a table, a page and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mlops.cli.bundle_argument import choose_bundle
from vision_mlops.cli.options import DryRunOption, JsonOption, SeverityOption, filled
from vision_mlops.cli.output import count_bar, emit_json, emit_table, say, warn
from vision_mlops.core import paths
from vision_mlops.core.errors import DataError, MissingExtraError, MlopsError, require
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.config.workload import Model, Workload
    from vision_mlops.data.check.dataset_check import CheckResult
    from vision_mlops.data.check.file_listing import ImageListing
    from vision_mlops.data.check.quarantine import Move
    from vision_mlops.model.embedding import Embedding

_EMBEDDED_AT = 160  # pixels; takes half the time of 224, where the size of the network's images is not known


def check(
    folder: Annotated[
        str | None,
        typer.Argument(
            callback=filled,
            help="Folder of class folders, split or not, prepared data, or registered data: `azureml:NAME:VERSION`.",
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            "-w",
            help="Workload whose network and limits apply; without FOLDER, its images are checked.",
            show_default="that of FOLDER",
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="Judge the labels by the features of this trained bundle: a folder, or `NAME@champion`."),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Look for label errors.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write the report to.", show_default="outputs/checks/NAME"),
    ] = None,
    fail_on: SeverityOption = "error",
    fix: Annotated[
        str | None, typer.Option(help="Move the files of these kinds of findings, separated by commas, to quarantine.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Quarantine folder of --fix.", show_default="FOLDER.quarantine")
    ] = None,
    dry_run: DryRunOption = False,
    undo: Annotated[
        Path | None, typer.Option(help="Move everything back from this quarantine folder, and exit.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Check a folder of images: broken files, copies, leaks, conflicts, odd images, imbalance, wrong labels.

    Example: `mlops data check photos/birds --fail-on warning`

    Files are moved only by --fix, and moved back by --undo: `mlops data check photos/birds --fix corrupt,leak`
    """
    if undo is not None:
        if folder is not None or fix is not None:
            raise MlopsError("--undo excludes FOLDER and --fix", "run `mlops data check --undo DIR`")
        _undo(undo, json_)
        return
    if (to is not None or dry_run) and fix is None:
        raise MlopsError("--to and --dry-run need --fix", "for example --fix corrupt --dry-run")
    from vision_mlops.config import load_workload
    from vision_mlops.data.check import check_report, dataset_findings, quarantine
    from vision_mlops.data.check.file_listing import printable
    from vision_mlops.data.sources import workload_of

    kinds = quarantine.parse_kinds(fix) if fix is not None else []
    if not labels and "label-error" in kinds:
        raise MlopsError("--fix label-error needs the check that --no-labels switches off", "remove one of them")
    loaded = load_workload(workload, ()) if workload is not None else None
    listing, name = _listing(folder, loaded)
    if loaded is None and (loaded := workload_of(listing.root)) is not None:
        say(f"these are the images of workload {loaded.name}: its network and limits apply")
    target = out or paths.home() / "checks" / (name.lstrip(".") or "images")
    check_report.check_target(target, listing.root)
    place = to or listing.root.with_name(f"{listing.root.name}.quarantine")
    if kinds:
        place = quarantine.check_target(listing, place)
    trained = choose_bundle(bundle).folder if bundle is not None else None
    result = _run(name, listing, loaded, trained, labels, target)
    page = check_report.write(result, target)
    moves = quarantine.plan(listing, result.findings, kinds, place) if kinds else []
    if json_:
        shown = [{"from": printable(m.source), "to": printable(m.target), "why": m.why} for m in moves]
        emit_json({**result.to_dict(), **({"quarantine": place, "moves": shown} if kinds else {})})
    else:
        _print(result)
    say(f"report: {page}")
    if kinds:
        _fix(listing, moves, place, dry_run=dry_run)
    left = [finding for finding in result.findings if dry_run or finding.kind not in kinds]
    if dataset_findings.fails(left, fail_on):
        raise typer.Exit(1)


def _fix(listing: ImageListing, moves: list[Move], place: Path, *, dry_run: bool) -> None:
    """Move files to quarantine, or say what would be moved."""
    from vision_mlops.data.check import quarantine
    from vision_mlops.data.check.file_listing import printable

    if dry_run:
        for item in moves:
            say(f"would move {printable(item.source)} to {printable(str(place / item.target))}: {item.why}")
        say(f"would move {counted(len(moves), 'file')}; nothing was changed")
    elif moves:
        done = quarantine.move(listing.root, place, moves)
        say(f"moved {counted(done, 'file')} to {place}; `mlops data check --undo {place}` moves them back")
    else:
        say("nothing to move")


def _listing(folder: str | None, workload: Workload | None) -> tuple[ImageListing, str]:
    from vision_mlops.cli.data.image_location import images_here, is_registered, registered_folder, title_of
    from vision_mlops.data.check.file_listing import from_source, list_images, printable
    from vision_mlops.data.sources import find_source

    if folder is not None and is_registered(folder):
        return list_images(registered_folder(folder)), title_of(folder)
    if folder is not None:
        listing = list_images(Path(folder))
        return listing, printable(listing.root.name) or "images"
    if workload is None:
        raise DataError("nothing to check", "give a folder, for example `mlops data check photos/birds`")
    return from_source(find_source(workload, images_here(workload, None)[0])), workload.name


def _run(
    name: str,
    listing: ImageListing,
    workload: Workload | None,
    bundle: Path | None,
    labels: bool,
    target: Path,
) -> CheckResult:
    from vision_mlops.config.workload import Data, Model
    from vision_mlops.data.check.dataset_check import CheckSettings
    from vision_mlops.data.check.dataset_check import check as run

    model, data = (workload.model, workload.data) if workload is not None else (Model(), Data())
    if workload is None:
        model = model.model_copy(update={"image_size": _EMBEDDED_AT})
    embedder, reason = _embedder(listing, model, bundle) if labels else (None, "--no-labels was given")
    image_size = workload.model.image_size if workload is not None else Model().image_size
    if bundle is not None:
        from vision_mlops.model.bundle import read_bundle

        image_size = read_bundle(bundle).preprocessing.image_size
    settings = CheckSettings(
        image_size=image_size,
        assumed=workload is None and bundle is None,
        max_pixels=data.max_pixels,
        smallest_class=data.min_images_per_class,
        no_labels=reason,
    )
    scratch = next(path for path in target.absolute().parents if path.is_dir())
    with count_bar("checking images", "comparing images") as progress:
        return run(name, listing, scratch, settings=settings, embedder=embedder, progress=progress)


def _embedder(listing: ImageListing, model: Model, bundle: Path | None) -> tuple[Embedding | None, str]:
    """Return the network that judges the labels, or why there is none."""
    from collections import Counter

    from vision_mlops.data.check.label_errors import SMALLEST
    from vision_mlops.model import embedding

    sizes = Counter(entry.label for entry in listing.entries)
    if sum(count >= SMALLEST for count in sizes.values()) < 2:
        return None, f"fewer than two classes have {SMALLEST} images"
    try:
        require("cleanlab")
        return (embedding.from_bundle(bundle) if bundle is not None else embedding.from_backbone(model)), ""
    except MissingExtraError as error:
        return None, f"{error.message}: {error.hint}"


def _print(result: CheckResult) -> None:
    from vision_mlops.data.check import check_report, dataset_findings

    emit_table(list(check_report.lines(result)), as_json=False, empty="no findings")
    counts = dataset_findings.by_severity(result.findings)
    text = ", ".join(counted(count, name) for name, count in counts.items())
    say(f"{counted(len(result.listing.entries), 'image')} in {result.seconds:.1f} s: {text}")


def _undo(folder: Path, as_json: bool) -> None:
    from vision_mlops.data.check.quarantine import undo

    undone = undo(folder)
    if as_json:
        emit_json({"restored": undone.restored, "problems": undone.problems})
    for problem in undone.problems:
        warn(problem)
    say(f"moved {counted(len(undone.restored), 'file')} back")
    if undone.problems:
        raise typer.Exit(1)
