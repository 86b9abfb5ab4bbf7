"""Downloads from servers that are slow, break off, lie, refuse, ignore what they are asked, or send one elsewhere."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from testing.support.web_server import Page, Site, serving

from vision_mlops.core.errors import DataError, DownloadError, MissingExtraError
from vision_mlops.data.fetch import verification
from vision_mlops.data.fetch.download_client import DownloadClient, DownloadRetryPolicy, DownloadStoppedError
from vision_mlops.data.fetch.http_responses import shown
from vision_mlops.data.fetch.partial_file import Part, Version
from vision_mlops.data.fetch.verification import ExpectedFile

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes, in several pieces
HALF = 131_072
QUICK = DownloadRetryPolicy(attempts=3, pause=0.001, longest_wait=5.0, stall=10.0)
NEVER = 1000
"""Seconds that no test waits for."""
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


@pytest.fixture
def site(server: Site) -> Site:
    server.pages.clear()
    server.log.clear()
    return server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "data.bin"


def get(site: Site, target: Path, path: str = "/x", patience: DownloadRetryPolicy = QUICK, **wanted: Any) -> list[str]:
    """Download and return what was said."""
    said: list[str] = []
    DownloadClient(patience, said.append).download(ExpectedFile(site.address + path, **wanted), target)
    return said


def refused(
    site: Site, target: Path, path: str = "/x", patience: DownloadRetryPolicy = QUICK, **wanted: Any
) -> DataError:
    with pytest.raises(DataError) as caught:
        get(site, target, path, patience, **wanted)
    assert caught.value.hint
    assert not target.exists()
    return caught.value


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.glob("*"))


def halves(site: Site, target: Path, page: Page, **wanted: Any) -> None:
    """One try that breaks off, and leaves its part."""
    page.breaks = [HALF]
    site.pages["/x"] = page
    refused(site, target, patience=DownloadRetryPolicy(attempts=1), **wanted)
    assert left(target) == ["data.bin.part", "data.bin.part.json"]
    assert Part(target).size == HALF
    site.log.clear()


@pytest.mark.parametrize(
    "page",
    [
        Page(CONTENT),
        Page(CONTENT, chunked=True),
        Page(CONTENT, etag='"1"', ranges=True),
        Page(CONTENT, headers={"Content-Encoding": "gzip"}),  # as some servers say of .tar.gz files
        Page(CONTENT, first=[503]),
        Page(CONTENT, first=[500, 502]),
        Page(CONTENT, first=[429], retry_after="0"),
    ],
)
def test_comes_whole(site: Site, target: Path, page: Page) -> None:
    site.pages["/x"] = page
    answers = 1 + len(page.first)
    said = get(site, target, size=len(CONTENT), sha256=SHA)
    assert target.read_bytes() == CONTENT
    assert left(target) == ["data.bin"]
    assert len(site.log) == answers
    assert len(said) == answers - 1


def test_progress_ends_with_the_whole(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT)
    seen: list[tuple[int, int | None]] = []
    DownloadClient(QUICK).download(
        ExpectedFile(f"{site.address}/x"), target, progress=lambda *state: seen.append(state)
    )
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    "version", [{"etag": '"1"'}, {"modified": "Sat, 21 Nov 2026 07:28:00 GMT"}, {"etag": 'W/"1"', "modified": "Sat, 2"}]
)
def test_goes_on_after_a_break(site: Site, target: Path, version: dict[str, str]) -> None:
    site.pages["/x"] = Page(CONTENT, ranges=True, breaks=[HALF, HALF], **version)  # type: ignore[arg-type]
    said = get(site, target)
    assert target.read_bytes() == CONTENT
    assert [asked.range for asked in site.log] == [None, f"bytes={HALF}-", f"bytes={2 * HALF}-"]
    assert site.sent("/x") == len(CONTENT)
    assert f"{HALF:,} of {len(CONTENT):,} bytes arrived; trying again" in said[0]
    strong = version.get("etag", "W/")
    assert site.log[1].if_range == (version["modified"] if strong.startswith("W/") else strong)


def test_goes_on_in_another_process(site: Site, target: Path) -> None:
    halves(site, target, Page(CONTENT, etag='"1"', ranges=True))
    get(site, target)
    assert target.read_bytes() == CONTENT
    assert site.sent("/x") == len(CONTENT) - HALF
    assert left(target) == ["data.bin"]


def test_a_checksum_lets_a_part_without_version_go_on(site: Site, target: Path) -> None:
    halves(site, target, Page(CONTENT, ranges=True), sha256=SHA)
    get(site, target, sha256=SHA)
    assert site.sent("/x") == len(CONTENT) - HALF
    assert site.log[0].if_range is None


def test_without_version_and_checksum_nothing_is_kept(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, ranges=True, breaks=[HALF])
    error = refused(site, target, patience=DownloadRetryPolicy(attempts=1))
    assert error.hint == "try again"
    assert left(target) == []


def test_the_message_says_what_is_kept(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, etag='"1"', breaks=[HALF])
    error = refused(site, target, patience=DownloadRetryPolicy(attempts=1))
    assert error.hint == f"try again; {HALF:,} bytes are kept and not downloaded again"


@pytest.mark.parametrize(
    "later",
    [
        Page(CONTENT, etag='"1"'),  # ignores ranges and answers 200
        Page(CONTENT, etag='"2"', ranges=True),  # another content: If-Range does not hold
        Page(CONTENT, etag='"1"', ranges=True, range_shift=-1000),
        Page(CONTENT, etag='"1"', ranges=True, range_shift=10**9),  # 416
        Page(CONTENT, etag='"1"', ranges=True, headers={"Content-Range": "bytes 5-10"}),
        Page(CONTENT, etag='"1"', ranges=True, headers={"Content-Range": f"bytes {HALF}-{HALF + 9}/{HALF + 10}"}),
        Page(CONTENT, etag='"1"', ranges=True, headers={"ETag": '"2"'}),  # ignores If-Range
    ],
)
def test_starts_over_where_the_rest_is_not_the_rest(site: Site, target: Path, later: Page) -> None:
    halves(site, target, Page(CONTENT[::-1] if later.etag == '"2"' else CONTENT, etag='"1"', ranges=True))
    site.pages["/x"] = later
    get(site, target)
    assert target.read_bytes() == CONTENT
    assert site.log[0].range == f"bytes={HALF}-"
    assert site.log[-1].status == 200


def test_a_content_that_changes_between_two_tries(site: Site, target: Path) -> None:
    site.pages["/x"] = page = Page(b"old" * 100_000, etag='"1"', ranges=True, breaks=[HALF])

    def change(text: str) -> None:
        page.content, page.etag = CONTENT, '"2"'

    DownloadClient(QUICK, change).download(ExpectedFile(f"{site.address}/x"), target)
    assert target.read_bytes() == CONTENT
    assert [asked.status for asked in site.log] == [200, 200]


def test_killed_between_the_last_byte_and_the_end(site: Site, target: Path) -> None:
    target.parent.mkdir()
    Part(target).begin(Version('"1"', "", len(CONTENT)))
    Part(target).append(CONTENT)
    site.pages["/x"] = Page(CONTENT, etag='"1"', ranges=True)
    get(site, target)  # the size is not known: the server says with 416 that there is no more
    assert [asked.status for asked in site.log] == [416]
    assert target.read_bytes() == CONTENT
    target.rename(Part(target).path)
    Part(target).begin(Version('"1"', "", len(CONTENT)))
    Part(target).append(CONTENT)
    get(site, target, size=len(CONTENT))
    assert len(site.log) == 1, "it is known: nobody is asked"


@pytest.mark.parametrize("notes", ["", "{", "[]", '{"etag": 1}', '{"etag": "", "modified": "", "length": "x"}'])
def test_damaged_notes_start_over(site: Site, target: Path, notes: str) -> None:
    halves(site, target, Page(CONTENT, etag='"1"', ranges=True))
    (target.parent / "data.bin.part.json").write_text(notes)
    get(site, target)
    assert target.read_bytes() == CONTENT
    assert site.log[0].range is None


@pytest.mark.parametrize(
    ("status", "reason", "mend"),
    [(404, "Not Found", "check the address"), (403, "Forbidden", "in a browser"), (410, "Gone", "removed permanently"),
     (401, "Unauthorized", "requires a login"), (400, "Bad Request", "check the address"), (304, "Not Modified", "check")],
)  # fmt: skip
def test_refusals_are_final(site: Site, target: Path, status: int, reason: str, mend: str) -> None:
    site.pages["/x"] = Page(b"no", status=status)
    error = refused(site, target)
    assert isinstance(error, DownloadError)
    assert error.message == f"{site.address}/x: the server responded with {status} {reason}"
    assert mend in error.hint
    assert error.status == status
    assert len(site.log) == 1
    assert left(target) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_gives_up_after_a_number_of_tries(site: Site, target: Path, status: int) -> None:
    site.pages["/x"] = Page(status=status)
    error = refused(site, target)
    assert f"the server responded with {status}" in error.message
    assert error.message.endswith("(3 tries)")
    assert len(site.log) == 3


def test_waits_as_long_as_it_is_asked_to(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/x"] = Page(CONTENT, first=[429], retry_after="4")
    said: list[str] = []
    client = DownloadClient(QUICK, said.append)
    waited = recorded(client, monkeypatch)
    client.download(ExpectedFile(f"{site.address}/x"), target)
    assert "trying again in 4.0 s" in said[0]
    assert waited == [4]
    assert target.read_bytes() == CONTENT


def recorded(client: DownloadClient, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a client waits between its tries; none of them pass."""
    waited: list[float] = []
    monkeypatch.setattr(client._stop, "wait", waited.append)
    return waited


def test_does_not_wait_for_ever(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, first=[503], retry_after="3600")
    error = refused(site, target)
    assert "the server responded with 503 Service Unavailable, and asks to wait 3,600 s" in error.message
    assert len(site.log) == 1


def test_pauses_grow_and_differ(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/x"] = Page(status=503)
    said: list[str] = []
    client = DownloadClient(DownloadRetryPolicy(attempts=5, pause=20, longest_pause=60), said.append)
    pauses = recorded(client, monkeypatch)
    with pytest.raises(DownloadError):
        client.download(ExpectedFile(f"{site.address}/x"), target)
    assert [text.rpartition(" in ")[2] for text in said] == [f"{pause:.1f} s" for pause in pauses]
    assert len(set(pauses)) == 4
    for pause, most in zip(pauses, (20, 40, 60, 60), strict=True):
        assert most / 2 <= pause <= most


def test_without_the_library(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(MissingExtraError, match="'requests'"):
        DownloadClient(QUICK).download(ExpectedFile("http://127.0.0.1/x"), target)


def test_nobody_answers(target: Path) -> None:
    with serving(Site()) as site:
        pass
    error = refused(site, target)
    assert error.message == f"{site.address}/x cannot be downloaded: Connection refused (3 tries)"
    assert isinstance(error, DownloadError)
    assert error.status == 0


@pytest.mark.slow
def test_a_connection_that_stalls(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, etag='"1"', ranges=True, pause=NEVER)
    error = refused(site, target, patience=DownloadRetryPolicy(attempts=2, pause=0.001, stall=0.2))
    assert "no data arrived for 0.2 s (2 tries)" in error.message


@pytest.mark.slow
def test_slow_is_not_stalled(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT[:80_000], pause=0.6)  # five pieces: the whole takes longer than a stall may
    assert get(site, target, patience=DownloadRetryPolicy(attempts=1, stall=2)) == []
    assert len(site.log) == 1


def test_announces_more_than_there_is(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, missing=50)
    error = refused(site, target)
    assert f"{len(CONTENT):,} of {len(CONTENT) + 50:,} bytes arrived (3 tries)" in error.message
    site.pages["/x"] = Page(CONTENT, missing=50)
    error = refused(site, target, size=len(CONTENT))
    assert f"expected {len(CONTENT):,} bytes, the server has {len(CONTENT) + 50:,}" in error.message


def test_announces_less_than_there_is(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, missing=-50)
    error = refused(site, target, size=len(CONTENT))
    assert f"expected {len(CONTENT):,} bytes, the server has {len(CONTENT) - 50:,}" in error.message
    assert "the file has changed" in error.hint
    error = refused(site, target, sha256=SHA)
    assert f"expected sha256 {SHA}, got " in error.message
    assert left(target) == []


@pytest.mark.parametrize(
    ("page", "size", "message"),
    [
        (Page(CONTENT, chunked=True), len(CONTENT) - 1, "bytes, got more than"),
        (Page(CONTENT, chunked=True), len(CONTENT) + 1, f"{len(CONTENT):,} of {len(CONTENT) + 1:,} bytes arrived"),
        (Page(CONTENT, chunked=True, missing=5), None, "the response ended too early (3 tries)"),
    ],
)
def test_sizes_of_answers_without_one(site: Site, target: Path, page: Page, size: int | None, message: str) -> None:
    site.pages["/x"] = page
    assert message in refused(site, target, size=size).message
    assert left(target) == []


def test_a_wrong_checksum_removes_what_came(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, etag='"1"', ranges=True)
    error = refused(site, target, sha256="0" * 64)
    assert error.message == f"{site.address}/x: expected sha256 {'0' * 64}, got {SHA}"
    assert "the download was removed" in error.hint
    assert left(target) == []
    assert len(site.log) == 1


def test_more_than_is_allowed(site: Site, target: Path) -> None:
    for page in (Page(CONTENT), Page(CONTENT, chunked=True)):
        site.pages["/x"] = page
        assert "at most 1,000 bytes, got" in refused(site, target, limit=1000).message
        assert left(target) == []


def test_redirects(site: Site, target: Path) -> None:
    for status, (here, there) in zip(
        (301, 302, 303, 307, 308),
        (("/x", "/b"), ("/b", "c"), ("/c", "//HOST/d"), ("/d", "?e"), ("/d?e", "/f")),
        strict=True,
    ):
        there = there.replace("HOST", site.address.removeprefix("http://"))
        site.pages[here] = Page(b"moved", status=status, location=there)
    site.pages["/f"] = Page(status=302, location="/\u00c3\u00bc")  # the bytes of UTF-8
    site.pages["/%C3%BC"] = Page(CONTENT, etag='"1"', ranges=True, breaks=[HALF])
    get(site, target)
    assert target.read_bytes() == CONTENT
    assert site.sent("/%C3%BC") == len(CONTENT)


def test_the_body_of_a_redirect_is_not_read(site: Site, target: Path) -> None:
    headers = {"Location": "/y"}
    site.pages["/x"] = Page(b"moved" * 100_000, status=302, headers=headers, pause=NEVER)
    site.pages["/y"] = Page(CONTENT)
    get(site, target, patience=replace(QUICK, stall=NEVER))
    assert target.read_bytes() == CONTENT
    assert site.sent("/x") == 0


def test_a_rest_that_is_longer_than_the_rest(site: Site, target: Path) -> None:
    halves(site, target, Page(CONTENT, etag='"1"', ranges=True))
    length = f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"
    site.pages["/x"] = Page(CONTENT + b"more", etag='"1"', ranges=True, chunked=True, headers={"Content-Range": length})
    said: list[str] = []

    def mend(text: str) -> None:
        said.append(text)
        site.pages["/x"].content = CONTENT

    client = DownloadClient(QUICK, mend)
    client.download(ExpectedFile(f"{site.address}/x"), target)
    assert f"{len(CONTENT) + 4:,} of {len(CONTENT):,} bytes arrived" in said[0]
    assert target.read_bytes() == CONTENT


def test_a_loop_of_redirects(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(status=302, location="/y")
    site.pages["/y"] = Page(status=302, location="/x")
    assert f"{site.address}/x: more than 10 redirects" in refused(site, target).message
    assert len(site.log) == 11


@pytest.mark.parametrize("there", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "http://[::1/x"])
def test_redirects_to_another_kind_of_address(site: Site, target: Path, there: str) -> None:
    site.pages["/x"] = Page(status=302, location=there)
    assert "the server redirects to" in refused(site, target).message


def test_a_redirect_from_https_to_http_is_refused(
    site: Site, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    site.pages["/plain"] = Page(CONTENT)
    with serving(Site({"/x": Page(status=301, location=f"{site.address}/plain")}), certificate) as safe:
        error = refused(safe, target)
        assert "certificate" in error.hint
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        error = refused(safe, target)
    assert f"{safe.address}/x: the server redirects to {site.address}/plain, which is less secure" in error.message
    assert site.log == []


@pytest.mark.parametrize("address", ["http://a b/x", "http://" + "a" * 80 + ".invalid/x", "http://x.invalid:99999/"])
def test_addresses_that_are_none(target: Path, address: str) -> None:
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        DownloadClient(QUICK).download(ExpectedFile(address), target)


def test_secrets_are_not_shown() -> None:
    assert shown("https://user:word@host:8/a/b.zip?sig=1#x") == "https://host:8/a/b.zip"
    assert shown("http://[::1/x?sig=1") == "http://[::1/x"
    assert shown("file:///a/b.zip") == "file:///a/b.zip"


def test_a_server_cannot_write_to_the_terminal(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(status=302, location="file:///\x1b[2J")
    assert "\x1b" not in refused(site, target).message
    site.pages["/x"] = Page(status=499)
    assert refused(site, target).message.endswith("the server responded with 499")


def test_the_version_that_one_has(site: Site, target: Path) -> None:
    site.pages["/x"] = Page(CONTENT, etag='"1"', modified="Sat, 21 Nov 2026 07:28:00 GMT")
    version = DownloadClient(QUICK).download(ExpectedFile(f"{site.address}/x"), target)
    assert version == Version('"1"', "Sat, 21 Nov 2026 07:28:00 GMT", len(CONTENT))
    assert DownloadClient(QUICK).download(ExpectedFile(f"{site.address}/x"), target, known=version) is None
    assert [asked.status for asked in site.log] == [200, 304]
    assert left(target) == ["data.bin"]


def test_too_little_space(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/x"] = Page(b"", headers={"Content-Length": str(10**16)})
    error = refused(site, target)
    assert "data.bin needs 10,000,000,000,000,000 bytes" in error.message
    assert "are free" in error.message
    assert verification.check_space(target, 1) is None  # type: ignore[func-returns-value]


def test_a_full_disk(site: Site, target: Path) -> None:
    """Every write to this device of Linux says that there is no space."""
    target.parent.mkdir()
    Part(target).path.symlink_to("/dev/full")
    site.pages["/x"] = Page(CONTENT, etag='"1"')
    error = refused(site, target)
    assert error.message == f"{Part(target).path}: No space left on device; 0 of {len(CONTENT):,} bytes are there"
    assert error.hint == "free space, and run the same command to continue"
    assert len(site.log) == 1


def test_stop_ends_downloads_that_wait(site: Site, tmp_path: Path) -> None:
    """One that waits for a byte, and one that waits for its next try."""
    site.pages["/x"] = Page(CONTENT, etag='"1"', pause=NEVER)
    site.pages["/y"] = Page(first=[503] * 9, retry_after=str(NEVER))
    client = DownloadClient(DownloadRetryPolicy(longest_wait=NEVER, stall=NEVER))
    ended: list[BaseException] = []

    def work(path: str) -> Callable[[], None]:
        def run() -> None:
            try:
                client.download(ExpectedFile(site.address + path), tmp_path / path.strip("/"))
            except DownloadStoppedError as error:
                ended.append(error)

        return run

    threads = [threading.Thread(target=work(path), daemon=True) for path in ("/x", "/y")]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(site.log) < 2 or not (tmp_path / "x.part").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.stop()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 2


@pytest.mark.slow
def test_notes_are_written_before_the_bytes(site: Site, target: Path) -> None:
    """A part never lies there under the version of another content."""
    halves(site, target, Page(CONTENT[::-1], etag='"1"'))
    site.pages["/x"] = Page(CONTENT, etag='"2"', pause=0.02)
    notes: list[tuple[int, str]] = []

    def look(done: int, total: int | None) -> None:
        notes.append((Part(target).size, json.loads((target.parent / "data.bin.part.json").read_text())["etag"]))

    DownloadClient(QUICK).download(ExpectedFile(f"{site.address}/x"), target, progress=look)
    assert {etag for _, etag in notes} == {'"2"'}
    assert notes[0][0] <= HALF
