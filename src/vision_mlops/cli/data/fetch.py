"""``mlops data fetch``: downloads a public dataset into a folder of class folders."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mlops.cli.data.image_location import name_of
from vision_mlops.cli.options import JsonOption, SetOption
from vision_mlops.cli.output import emit_json, say, warn
from vision_mlops.core.errors import ConfigError, DataError
from vision_mlops.core.text import counted

if TYPE_CHECKING:
    from vision_mlops.config.workload import Workload
    from vision_mlops.data.fetch.assembly import FetchRequest, Progress
    from vision_mlops.data.fetch.fetching import FetchResult


def fetch(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|URL...",
            help="Name of a shipped workload or path of its YAML file; or addresses of archives; or the address or path of "
            "one list of image addresses.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; default outputs/downloads/NAME.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Checksum that the file at URL must have.")] = None,
    size: Annotated[int | None, typer.Option("--size", min=1, help="Bytes that the file at URL must have.")] = None,
    inside: Annotated[
        str | None,
        typer.Option("--inside", help="Folder in the archive with the class folders; found where there is one."),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            "--max-size", min=1, help="Most bytes after unpacking; default 20 times the archive, 256 MB at least."
        ),
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Do not remove them after unpacking.")] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out images of a list that cannot be downloaded.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Images of a list at once.")] = 8,
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, help="Tries in a row that bring nothing, before giving up.")
    ] = 6,
    pause: Annotated[
        float, typer.Option("--pause", min=0.0, help="Seconds before the second try; doubles with each.")
    ] = 1.0,
    stall: Annotated[
        float, typer.Option("--stall", min=0.1, help="Seconds without a byte, until a connection counts as dead.")
    ] = 60.0,
    per_class: Annotated[
        int | None,
        typer.Option("--per-class", min=1, help="Most images of a class, where a dataset of the package is copied."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Download again, and replace an earlier download.")] = False,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Download a dataset and lay it out as class folders, or as train, val and test where its split is published.

    An interrupted download goes on where it stopped. Sizes and checksums are verified, archives (tar, tar.gz, tar.bz2,
    tar.xz, zip) are checked before anything is unpacked. A list has an address a line, or columns url,label[,split]. The
    folder is for `mlops data prepare`, with the workload or with `--images`. Images that come with the package are copied.

    Example: `mlops data fetch stanford_dogs`, or `mlops data fetch https://example.org/birds.zip --out photos/birds`, or
    `mlops data fetch textile --per-class 120 --out photos/fabric`
    """
    from vision_mlops.data.fetch.assembly import FetchOptions
    from vision_mlops.data.fetch.download_client import DownloadClient, DownloadRetryPolicy
    from vision_mlops.data.fetch.fetching import describe, kept
    from vision_mlops.data.fetch.fetching import fetch as run
    from vision_mlops.data.fetch_record import megabytes

    given = {"sha256": sha256, "size": size, "images": inside, "max_size": max_size}
    if len(what) == 1 and (workload := _bundled(what[0], set_ or [])) is not None:
        _copy(workload, out, given, per_class, json_)
        return
    if per_class is not None:
        raise DataError("--per-class is for a dataset that comes with the package", "give the name of one: textile")
    request = _request(
        what, out, {"images": inside, "max_size": max_size}, {"sha256": sha256, "size": size}, set_ or []
    )
    options = FetchOptions(force=force, keep_archives=keep_archives, jobs=jobs, skip_missing=skip_missing)

    def begin() -> None:
        say(describe(request))
        if request.download.licence:
            say(f"licence: {request.download.licence}")

    with _progress() as (progress, tell):
        client = DownloadClient(DownloadRetryPolicy(attempts=attempts, pause=pause, stall=stall), tell)
        try:
            result = run(request, client, options, begin=begin, progress=progress)
        except KeyboardInterrupt:
            size = kept(request.out)
            rest = f"{megabytes(size)} are kept, and the same command goes on there" if size else "nothing was kept"
            say(f"interrupted; {rest}")
            raise typer.Exit(130) from None
    _tell(request, what[0] if _address(what[0]) is None else None, result, json_)


def _bundled(what: str, set_: list[str]) -> Workload | None:
    """The workload that is named, where its images come with a package."""
    from vision_mlops.config import list_workloads, load_workload

    if what not in list_workloads():
        return None
    workload = load_workload(what, set_)
    return workload if workload.data.source == "bundled" else None


def _copy(workload: Workload, out: Path | None, given: dict[str, Any], per_class: int | None, as_json: bool) -> None:
    """Copy the images that come with a package."""
    from vision_mlops.core import paths
    from vision_mlops.data.bundled_copy import copy_images
    from vision_mlops.data.sources import find_source

    for name, value in given.items():
        if value is not None:
            option = {"images": "inside"}.get(name, name.replace("_", "-"))
            raise DataError(f"--{option} is for an address", f"the images of {workload.name} come with a package")
    if workload.data.corrupt is not None:
        raise DataError(
            f"the images of {workload.name} are made when they are prepared",
            f"mlops data prepare --workload {workload.name} --out outputs/data/{workload.name}",
        )
    target = (out or paths.home() / "downloads" / workload.name).expanduser().resolve()
    copied = copy_images(find_source(workload, None), target, per_class)
    if as_json:
        emit_json({"folder": copied.folder, "reused": copied.reused, "counts": copied.counts})
    total = f"{counted(sum(copied.counts.values()), 'image')} of {counted(len(copied.counts), 'class')}"
    say(f"{'unchanged' if copied.reused else 'copied'}: {copied.folder}: {total}")


def _request(
    what: list[str], out: Path | None, settings: dict[str, Any], given: dict[str, Any], set_: list[str]
) -> FetchRequest:
    """The dataset that the arguments name."""
    from vision_mlops.core import paths
    from vision_mlops.data.fetch.assembly import FetchRequest, plain_name

    urls = [_address(each) for each in what]
    settings = {key: value for key, value in settings.items() if value is not None}
    given = {key: value for key, value in given.items() if value is not None}
    found = [url for url in urls if url is not None]
    if not found:
        return _of_workload(what, out, {**settings, **given}, set_)
    if len(found) < len(what):
        raise DataError("a workload and addresses together", "give one of them")
    if set_:
        raise DataError("--set changes a workload, and none is given", "give the name or the file of one")
    if len(found) > 1 and given:
        raise DataError(
            f"--{next(iter(given))} is for one file, and {len(found)} are given", "describe them in a workload"
        )
    download = _described({"archives": [{"url": url, **given} for url in found], **settings})
    name = Path(plain_name(found[0])).stem.removesuffix(".tar") or "download"
    target = (out or paths.home() / "downloads" / name).expanduser().resolve()
    return FetchRequest(target.name, target, download)


def _of_workload(what: list[str], out: Path | None, settings: dict[str, Any], set_: list[str]) -> FetchRequest:
    from vision_mlops.config import list_workloads, load_workload
    from vision_mlops.data.fetch.assembly import FetchRequest
    from vision_mlops.data.fetch_record import download_folder

    if len(what) > 1:
        raise DataError(f"{len(what)} workloads are given", "fetch one at a time")
    known = what[0] in list_workloads() or what[0].endswith((".yml", ".yaml"))
    if not known and not what[0].lstrip().startswith("{"):
        raise DataError(
            f"{what[0]!r} is no workload, no http or https address and no file",
            f"workloads: {', '.join(list_workloads())}",
        )
    workload = load_workload(what[0], set_)
    if workload.data.download is None:
        raise ConfigError(
            f"workload {workload.name} has nothing to download", "describe it in its section data.download"
        )
    if settings:
        raise DataError(
            f"--{next(iter(settings)).replace('_', '-').replace('images', 'inside')} is for an address",
            "change the workload, for example with --set data.download.max_size=2000000000",
        )
    usual = download_folder(workload)
    target = out.expanduser().resolve() if out else usual
    return FetchRequest(workload.name, target, workload.data.download, elsewhere=target != usual)


def _address(text: str) -> str | None:
    """An address, also of a file of this machine; None where it can only be a workload."""
    if text.lower().startswith(("http://", "https://", "file://")):
        return text
    path = Path(text).expanduser()
    return path.resolve().as_uri() if path.is_file() and path.suffix not in (".yml", ".yaml") else None


def _described(content: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from vision_mlops.config.workload import Download

    names = {"url": "the address", "sha256": "--sha256", "images": "--inside"}
    try:
        return Download.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = names.get(str(first["loc"][-1]), str(first["loc"][-1]))
        raise DataError(f"{name}: {first['msg'].removeprefix('Value error, ')}", f"got {first['input']!r}") from error


@contextmanager
def _progress() -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """A bar on a terminal, elsewhere nothing; and a way to say something beside it."""
    if not sys.stderr.isatty():
        yield (lambda *_: None), say
        return
    from rich import progress as bars
    from rich.console import Console

    class Amount(bars.ProgressColumn):
        """Megabytes, or a count."""

        def render(self, task: bars.Task) -> str:
            scale, unit = (1e6, " MB") if task.fields["unit"] == "bytes" else (1, "")
            total = "" if task.total is None else f" of {task.total / scale:,.0f}"
            return f"{task.completed / scale:,.0f}{total}{unit}"

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), Amount(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, bars.TaskID] = {}

        def report(name: str, done: int, total: int | None, unit: str) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total, unit=unit)
            bar.update(tasks[name], completed=done, total=total)

        yield report, lambda text: bar.console.print(text, highlight=False, markup=False)


def _tell(request: FetchRequest, workload: str | None, result: FetchResult, as_json: bool) -> None:
    from vision_mlops.data.manifest import UNSPLIT

    record = result.record
    if not result.reused:
        for text in result.warnings:
            warn(text)
    if as_json:
        emit_json({"folder": result.folder, "reused": result.reused, **record.model_dump()})
    counts = ", ".join(
        f"{split} {sum(classes.values()):,}" for split, classes in record.counts.items() if split != UNSPLIT
    )
    labels = {label for classes in record.counts.values() for label in classes}
    total = f"{counted(record.images, 'image')} of {counted(len(labels), 'class')}" + (f" ({counts})" if counts else "")
    say(f"{'unchanged' if result.reused else 'fetched'}: {result.folder}: {total}")
    if result.archives is not None:
        say(f"archives kept in {result.archives}")
    if sys.stderr.isatty():
        if workload is None:
            say(f"next: mlops new {name_of(request.out)} --images {shlex.quote(str(request.out))}")
            return
        words = ["--workload", workload, *(["--images", str(request.out)] if request.elsewhere else [])]
        say(f"next: mlops run {shlex.join(words)}")
