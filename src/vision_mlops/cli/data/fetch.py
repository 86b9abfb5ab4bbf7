"""``mlops data fetch``: download a public dataset into a folder of class folders."""

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
from vision_mlops.cli.output import bars, emit_json, interruptible, say, warn
from vision_mlops.core import paths
from vision_mlops.core.errors import ConfigError, DataError, in_plain_words
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
            help="Name or YAML file of a workload, addresses of archives, or the address or path of one list of image"
            " addresses.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to create.", show_default="outputs/downloads/NAME")] = None,
    sha256: Annotated[str | None, typer.Option(help="Expected checksum of the file at URL.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Expected bytes of the file at URL.")] = None,
    inside: Annotated[
        str | None,
        typer.Option(help="Folder in the archive that has the class folders.", show_default="the only one"),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of bytes after unpacking.",
            show_default="20 times the archive, at least 256 MB",
        ),
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep the archives after unpacking.")] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Skip images of a list that cannot be downloaded.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Parallel downloads of a list.")] = 8,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts without progress before giving up.")] = 6,
    pause: Annotated[float, typer.Option(min=0.0, help="Seconds before the second attempt; doubles each time.")] = 1.0,
    stall: Annotated[
        float, typer.Option(min=0.1, help="Seconds without data after which a connection counts as dead.")
    ] = 60.0,
    per_class: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of images per class when a bundled dataset is copied."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Download again and replace an earlier download.")] = False,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Download a dataset and lay it out as class folders, or as train, val and test if its split is published.

    An interrupted download continues where it stopped. Sizes and checksums are verified, and archives (tar, tar.gz, tar.bz2,
    tar.xz, zip) are checked before anything is unpacked. A list has one address per line, or columns url,label[,split]. Use
    the folder for `mlops data prepare`, with the workload or with `--images`. Images that come with the package are copied.

    Example: `mlops data fetch stanford_dogs`, or `mlops data fetch https://example.org/birds.zip --out photos/birds`, or
    `mlops data fetch textile --per-class 120 --out photos/fabric`
    """
    from vision_mlops.data.fetch.assembly import FetchOptions
    from vision_mlops.data.fetch.download_client import DownloadClient, DownloadRetryPolicy
    from vision_mlops.data.fetch.fetching import describe, kept
    from vision_mlops.data.fetch.fetching import fetch as run
    from vision_mlops.data.fetch_record import megabytes

    file = {"sha256": sha256, "size": size}
    settings = {"images": inside, "max_size": max_size}
    if len(what) == 1 and (workload := _bundled(what[0], set_ or [])) is not None:
        _copy(workload, out, _options({**file, **settings}), per_class, json_)
        return
    if per_class is not None:
        raise DataError("--per-class applies only to a dataset that comes with the package", "give its name: textile")
    request = _request(what, out, settings, file, set_ or [])
    options = FetchOptions(force=force, keep_archives=keep_archives, jobs=jobs, skip_missing=skip_missing)

    def begin() -> None:
        say(describe(request))
        if request.download.licence:
            say(f"licence: {request.download.licence}")

    def rest() -> str:
        done = kept(request.out)
        return f"{megabytes(done)} are kept, and the same command continues there" if done else "nothing was kept"

    with _progress() as (progress, tell):
        client = DownloadClient(DownloadRetryPolicy(attempts=attempts, pause=pause, stall=stall), tell)
        with interruptible(rest):
            result = run(request, client, options, begin=begin, progress=progress)
    _tell(request, what[0] if _address(what[0]) is None else None, result, json_)


def _bundled(what: str, set_: list[str]) -> Workload | None:
    """Return the named workload if its images come with a package."""
    from vision_mlops.config import list_workloads, load_workload

    if what not in list_workloads():
        return None
    workload = load_workload(what, set_)
    return workload if workload.data.source == "bundled" else None


def _options(given: dict[str, Any]) -> list[str]:
    """Return the options behind those values that are given."""
    return [
        f"--{key.replace('_', '-').replace('images', 'inside')}" for key, value in given.items() if value is not None
    ]


def _copy(workload: Workload, out: Path | None, given: list[str], per_class: int | None, as_json: bool) -> None:
    """Copy the images that come with a package."""
    from vision_mlops.data.bundled_copy import copy_images
    from vision_mlops.data.sources import find_source

    if given:
        raise DataError(f"{given[0]} applies only to an address", f"the images of {workload.name} come with a package")
    if workload.data.corrupt is not None:
        raise DataError(
            f"the images of {workload.name} are generated when they are prepared",
            f"mlops data prepare --workload {workload.name} --out outputs/data/{workload.name}",
        )
    target = (out or paths.home() / "downloads" / workload.name).expanduser().resolve()
    copied = copy_images(find_source(workload, None), target, per_class)
    if as_json:
        emit_json({"folder": copied.folder, "reused": copied.reused, "counts": copied.counts})
    total = f"{counted(sum(copied.counts.values()), 'image')} of {counted(len(copied.counts), 'class')}"
    say(f"{'unchanged' if copied.reused else 'copied'}: {copied.folder}: {total}")


def _request(
    what: list[str], out: Path | None, settings: dict[str, Any], file: dict[str, Any], set_: list[str]
) -> FetchRequest:
    """Return the request for the dataset that the arguments name."""
    from vision_mlops.data.fetch.assembly import FetchRequest, plain_name

    found = [url for url in map(_address, what) if url is not None]
    if not found:
        return _of_workload(what, out, _options({**settings, **file}), set_)
    if len(found) < len(what):
        raise DataError("a workload and addresses are given", "give either a workload or addresses")
    if set_:
        raise DataError("--set changes a workload, but none is given", "give the name or the file of one")
    if len(found) > 1 and (given := _options(file)):
        raise DataError(f"{given[0]} applies to one file, but {len(found)} are given", "describe them in a workload")
    download = _described({"archives": [{"url": url, **file} for url in found], **settings})
    name = Path(plain_name(found[0])).stem.removesuffix(".tar") or "download"
    target = (out or paths.home() / "downloads" / name).expanduser().resolve()
    return FetchRequest(target.name, target, download)


def _of_workload(what: list[str], out: Path | None, given: list[str], set_: list[str]) -> FetchRequest:
    from vision_mlops.config import list_workloads, load_workload
    from vision_mlops.data.fetch.assembly import FetchRequest
    from vision_mlops.data.fetch_record import download_folder

    if len(what) > 1:
        raise DataError(f"{len(what)} workloads are given", "fetch one at a time")
    known = what[0] in list_workloads() or what[0].endswith((".yml", ".yaml"))
    if not known and not what[0].lstrip().startswith("{"):
        raise DataError(
            f"{what[0]!r} is not a workload, an http or https address, or a file",
            f"workloads: {', '.join(list_workloads())}",
        )
    workload = load_workload(what[0], set_)
    if workload.data.download is None:
        raise ConfigError(
            f"workload {workload.name} has nothing to download", "describe the download in its section data.download"
        )
    if given:
        raise DataError(
            f"{given[0]} applies only to an address",
            "change the workload, for example with --set data.download.max_size=2000000000",
        )
    usual = download_folder(workload)
    target = out.expanduser().resolve() if out else usual
    return FetchRequest(workload.name, target, workload.data.download, elsewhere=target != usual)


def _address(text: str) -> str | None:
    """Return an address, also of a local file; None for what can only be a workload."""
    if text.lower().startswith(("http://", "https://", "file://")):
        return text
    path = Path(text).expanduser()
    return path.resolve().as_uri() if path.is_file() and path.suffix not in (".yml", ".yaml") else None


def _described(content: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from vision_mlops.config.workload import PATTERNS, Download

    names = {"url": "the address", "sha256": "--sha256", "images": "--inside"}
    try:
        return Download.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = names.get(str(first["loc"][-1]), str(first["loc"][-1]))
        problem, fix = in_plain_words(first, PATTERNS)
        raise DataError(f"{name}: {problem}", fix or f"got {first['input']!r}") from error


@contextmanager
def _progress() -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """Show a bar for each download on a terminal and nothing elsewhere; the second function prints a line beside it."""
    with bars() as (show, tell):

        def report(name: str, done: int, total: int | None, unit: str) -> None:
            if show is not None:
                scale, word = (1e6, " MB") if unit == "bytes" else (1, "")
                of = "" if total is None else f" of {total / scale:,.0f}"
                show(name, done, total, f"{done / scale:,.0f}{of}{word}")

        yield report, tell


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
