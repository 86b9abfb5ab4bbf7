"""Inputs that come over http: fetched once a job, again only where there is newer, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from testing.support.jobs import command, command_job, pipeline, run, statuses, text, write
from testing.support.web_server import Page, Site, serving

from vision_mlops.core import paths
from vision_mlops.core.errors import PipelineError
from vision_mlops.data.fetch.download_client import DownloadRetryPolicy
from vision_mlops.jobs.local.inputs.input_sources import download

pytestmark = pytest.mark.usefixtures("without_mlflow")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


def job(folder: Path, address: str) -> Path:
    text_of = "cat ${{inputs.x}} > ${{outputs.out}} && basename ${{inputs.x}} >> ${{outputs.out}}"
    content = command_job(text_of, {"out": "uri_file"}, inputs={"x": {"type": "uri_file", "path": address}})
    return write(folder / "job.yml", content)


def test_fetched_and_fetched_again_when_there_is_newer(tmp_path: Path, site: Site) -> None:
    site.pages["/a/table.csv?key=secret"] = Page(b"first\n", etag='"1"')
    file = job(tmp_path, f"{site.address}/a/table.csv?key=secret")
    assert text(run(file), "job") == "first\ntable.csv"
    assert site.requests == [("/a/table.csv?key=secret", None)]
    assert statuses(run(file)) == {"job": "Reused"}
    assert site.requests[1:] == [("/a/table.csv?key=secret", '"1"')]  # answered with 304
    site.pages["/a/table.csv?key=secret"] = Page(b"second\n", etag='"2"')
    assert text(run(file), "job") == "second\ntable.csv"


def test_a_server_that_knows_no_conditions(tmp_path: Path, site: Site) -> None:
    site.pages["/x"] = Page(b"same\n", chunked=True)
    file = job(tmp_path, f"{site.address}/x")
    assert text(run(file), "job") == "same\nx"
    assert statuses(run(file)) == {"job": "Reused"}


def test_all_steps_of_a_job_read_the_same(tmp_path: Path, site: Site) -> None:
    site.pages["/x"] = Page(b"x")
    step = command("cat ${{inputs.x}}", inputs={"x": "${{parent.inputs.x}}"})
    content = pipeline({"a": step, "b": step}, inputs={"x": {"type": "uri_file", "path": f"{site.address}/x"}})
    run(write(tmp_path / "job.yml", content))
    assert len(site.requests) == 1


def test_the_copy_serves_while_the_server_is_away(tmp_path: Path) -> None:
    with serving(Site({"/x": Page(b"x\n", etag='"1"')})) as site:
        file = job(tmp_path, f"{site.address}/x")
        run(file)
    assert statuses(run(file)) == {"job": "Reused"}


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page(status=404), "the server responded with 404 Not Found"),
        (Page(status=500), "the server responded with 500"),
        (Page(b"half", missing=10), "4 of 14 bytes arrived"),
        (Page(b"half", missing=10, chunked=True), "the response ended too early"),
    ],
)
@pytest.mark.parametrize("copy", [False, True])
def test_what_does_not_come_whole_is_refused(tmp_path: Path, site: Site, page: Page, message: str, copy: bool) -> None:
    file = job(tmp_path, f"{site.address}/x?sig=secret")
    if copy:
        site.pages["/x?sig=secret"] = Page(b"x\n")
        run(file, name="before")
    site.pages["/x?sig=secret"] = page
    with pytest.raises(PipelineError, match=message) as caught:
        run(file)
    assert caught.value.hint
    assert "secret" not in str(caught.value)
    kept = [path for path in (paths.home() / "cache" / "downloads").rglob("*") if path.is_file()]
    assert sorted(path.name for path in kept) == (["facts.json", "x"] if copy else [])
    assert [path.name for path in (paths.home() / "jobs").glob("*")] == (["before"] if copy else [])


def test_nobody_answers(tmp_path: Path) -> None:
    with serving(Site()) as site:
        address = f"{site.address}/x"
    with pytest.raises(PipelineError, match=r"cannot be downloaded: .*refused") as caught:
        run(job(tmp_path, address))
    assert "network" in caught.value.hint


@pytest.mark.parametrize("path", ["/facts.json", "/", "/a/..", "/%2e%2e", "/" + "n" * 300 + ".csv"])
def test_odd_names(tmp_path: Path, site: Site, path: str) -> None:
    for same in (path, "/", "/.."):  # a client may resolve dots and escapes before it asks
        site.pages[same] = Page(b"content\n")
    file = job(tmp_path, site.address + path)
    assert text(run(file), "job").startswith("content\n")
    assert statuses(run(file)) == {"job": "Reused"}


@pytest.mark.slow
def test_two_jobs_at_once_download_once(site: Site) -> None:
    """The second waits for the first, and then only asks whether there is newer."""
    site.pages["/x.csv"] = Page(b"x" * 50_000, etag='"1"', pause=0.1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(download, [f"{site.address}/x.csv"] * 2))
    assert found[0] == found[1]
    assert found[0].read_bytes() == b"x" * 50_000
    assert site.requests == [("/x.csv", None), ("/x.csv", '"1"')]
    assert sorted(path.name for path in found[0].parents[1].iterdir()) == ["content", "facts.json"]


def test_a_job_goes_on_with_a_download_that_broke_off(tmp_path: Path, site: Site) -> None:
    site.pages["/x"] = Page(b"x" * 50_000, etag='"1"', ranges=True, breaks=[20_000, 10_000])
    with pytest.raises(PipelineError, match="20,000 of 50,000 bytes arrived"):
        download(f"{site.address}/x", DownloadRetryPolicy(attempts=1))
    assert download(f"{site.address}/x", DownloadRetryPolicy(pause=0.01)).read_bytes() == b"x" * 50_000
    assert [asked.sent for asked in site.log] == [20_000, 10_000, 20_000]
