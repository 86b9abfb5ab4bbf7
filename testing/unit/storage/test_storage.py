"""The parts of transfers that need no service: addresses, sign-ins, names, blocks, listings, threads."""

from __future__ import annotations

import threading
import time
from email.message import Message
from typing import Any

import pytest

from vision_mlops.core.errors import AzureError, ConfigError
from vision_mlops.storage.addresses import ContainerAddress, DatastoreAddress, parse_address
from vision_mlops.storage.blob_listing import next_marker, read_page
from vision_mlops.storage.file_parts import BlockNames, block_size
from vision_mlops.storage.http_connections import StorageResponse
from vision_mlops.storage.locations import locate
from vision_mlops.storage.service_errors import refusal
from vision_mlops.storage.sign_in import EntraIdentity, SharedAccessSignature
from vision_mlops.storage.thread_pool import ThreadPool
from vision_mlops.storage.transfer_summary import Count, TransferSummary

HOST = "https://photos.blob.core.windows.net"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HOST}/c1x", ContainerAddress(HOST, "photos", "c1x", "")),
        (f"{HOST}/c1x/a%20b/%C3%BC/", ContainerAddress(HOST, "photos", "c1x", "a b/ü")),
        (f"{HOST}/c1x/a b/ü%23", ContainerAddress(HOST, "photos", "c1x", "a b/ü#")),
        (f"{HOST.upper()}/$root", ContainerAddress(HOST, "photos", "$root", "")),
        (
            "http://127.0.0.1:10000/devstoreaccount1/c1x/p",
            ContainerAddress("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1", "c1x", "p"),
        ),
        (
            "https://p.z12.blob.storage.azure.net/c1x/p",
            ContainerAddress("https://p.z12.blob.storage.azure.net", "p", "c1x", "p"),
        ),
        (
            "https://p.blob.core.usgovcloudapi.net/c1x",
            ContainerAddress("https://p.blob.core.usgovcloudapi.net", "p", "c1x", ""),
        ),
        ("https://p.blob.own.example/c1x", ContainerAddress("https://p.blob.own.example", "p", "c1x", "")),
        ("azureml://datastores/store/paths/a%20b#/c", DatastoreAddress("store", "a%20b#/c")),
        ("azureml://datastores/store", DatastoreAddress("store", "")),
        ("datastore:store/a/b/", DatastoreAddress("store", "a/b")),
        (
            "azureml://subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/datastores/d"
            "/paths/p",
            DatastoreAddress("d", "p", "w", "g", "s"),
        ),
    ],
)
def test_addresses(text: str, expected: object) -> None:
    assert parse_address(text, ["own.example"]) == expected


@pytest.mark.parametrize("host", ["evil.com", "photos.blob.core.windows.net.evil.com", "blob.core.windows.net"])
def test_a_token_goes_to_no_other_host(host: str) -> None:
    with pytest.raises(ConfigError, match="is not a storage account"):
        locate(f"https://{host}/c1x/p", environ={})


def test_a_signature_is_not_shown() -> None:
    sign_in = SharedAccessSignature("?sv=1&se=2020-01-01&sig=a%2Fb%2Bc%3D", "TOKEN")
    assert sign_in.query() == "sv=1&se=2020-01-01&sig=a%2Fb%2Bc%3D"
    assert sign_in.ended == "2020-01-01"
    assert "a%2Fb" not in repr(sign_in)
    for text in ("x a/b+c= y", "x a%2Fb%2Bc%3D y"):
        assert sign_in.hide(text) == "x *** y"
    assert sign_in.hide("GET /?sig=another&x=1") == "GET /?sig=***&x=1"
    assert locate(f"{HOST}/c1x/p q", environ={"AZURE_STORAGE_SAS_TOKEN": sign_in.query()}).url == f"{HOST}/c1x/p%20q"


class _Credential:
    def __init__(self, seconds: float) -> None:
        self.asked = 0
        self._seconds = seconds

    def get_token(self, *scopes: str, **options: Any) -> Any:
        from azure.core.credentials import AccessToken

        assert scopes == ("https://storage.azure.com/.default",)
        self.asked += 1
        return AccessToken(f"token {self.asked}", int(time.time() + self._seconds))


def test_tokens_are_kept_until_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    credential = _Credential(3600)
    identity = EntraIdentity(credential)
    assert [identity.headers()["Authorization"] for _ in range(3)] == ["Bearer token 1"] * 3
    assert not identity.renew()  # it was just made: asking again changes nothing
    later = time.monotonic() + 100
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert identity.renew()
    assert identity.headers()["Authorization"] == "Bearer token 2"
    assert identity.hide("Bearer token 2!") == "Bearer ***!"
    short = _Credential(200)
    identity = EntraIdentity(short)
    assert [identity.headers()["Authorization"] for _ in range(2)] == ["Bearer token 1", "Bearer token 2"]


def test_names_of_blocks_tell_their_content() -> None:
    names = BlockNames([])
    assert names.tell_content
    first = names.name(0, b"a" * 16)
    assert len({first, names.name(1, b"a" * 16), names.name(0, b"b" * 16)}) == 3
    assert BlockNames([first]).name(0, b"a" * 16) == first
    foreign = BlockNames(["eHh4eHh4eHg="])  # eight letters
    assert not foreign.tell_content
    assert len(foreign.name(3, b"a" * 16)) == len("eHh4eHh4eHg=")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, 4 << 20),
        (50_000 * (4 << 20), 4 << 20),
        (50_000 * (4 << 20) + 1, 5 << 20),
        (190 * (1 << 40) // 1000, 4 << 20),
    ],
)
def test_there_are_never_too_many_blocks(size: int, expected: int) -> None:
    assert block_size(size, 4 << 20) == expected
    assert -(-size // expected) <= 50_000


def test_a_listing_is_read() -> None:
    page = (
        b"\xef\xbb\xbf<?xml version='1.0'?><EnumerationResults><Blobs>"
        b"<Blob><Name> a &amp; b </Name><Properties><Etag>0x1</Etag><Content-Length>3</Content-Length><Content-MD5>"
        b"kAFQmDzST7DWlj99KOF/cg==</Content-MD5></Properties></Blob>"
        b'<Blob><Name Encoded="true">x%EF%BF%BE%25</Name><Properties><Content-Length>3</Content-Length><Etag>"2"</Etag>'
        b"<Content-MD5/></Properties></Blob>"
        b"<Blob><Name>d</Name><Properties><Content-Length>0</Content-Length><Etag>3</Etag><ResourceType>directory"
        b"</ResourceType></Properties></Blob>"
        b"</Blobs><NextMarker>m&amp;1</NextMarker></EnumerationResults>"
    )
    (name, blob), (other, second) = read_page(page)
    assert (name, blob.size, blob.md5.hex(), blob.etag) == (" a & b ", 3, "900150983cd24fb0d6963f7d28e17f72", '"0x1"')
    assert (other, second.md5, second.etag) == ("x\ufffe%", b"", '"2"')
    assert next_marker(page) == "m&1"
    assert next_marker(page.replace(b"m&amp;1", b"")) == ""
    for broken in (page[:-30], b"no XML", page.replace(b">3<", b">x<")):
        with pytest.raises(AzureError, match="the listing of storage cannot be read"):
            read_page(broken)


def _headers(**values: str) -> Message:
    made = Message()
    for name, value in values.items():
        made[name.replace("_", "-")] = value
    return made


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry_After": "7"}, 7.0),
        ({"x_ms_retry_after_ms": "500"}, 0.5),
        ({"Retry_After": "86400"}, 120.0),
    ],
)
def test_how_long_the_service_wants_us_to_wait(headers: dict[str, str], expected: float | None) -> None:
    assert refusal("x", StorageResponse(503, _headers(**headers), b""), "sas").pause == expected


@pytest.mark.parametrize(
    ("status", "content", "fatal", "transient", "text"),
    [
        (
            503,
            b"<Error><Code>ServerBusy</Code><Message>busy\nRequestId:1</Message></Error>",
            False,
            True,
            "x: busy (HTTP 503 Ser",
        ),
        (403, b"<html>a proxy</html>", True, False, "x: Forbidden (HTTP 403)"),
        (404, b"<Error><Code>ContainerNotFound</Code></Error>", True, False, "--create-container"),
        (404, b"<Error><Code>BlobNotFound</Code></Error>", False, False, "HTTP 404 BlobNotFound"),
        (400, b"<Error><Code>Md5Mismatch</Code></Error>", False, True, "HTTP 400 Md5Mismatch"),
        (301, b"", True, False, "redirects"),
        (599, b"", False, False, "no reason given"),
    ],
)
def test_what_a_refusal_means(status: int, content: bytes, fatal: bool, transient: bool, text: str) -> None:
    error = refusal("x", StorageResponse(status, _headers(), content), "sas")
    assert (error.fatal, error.transient, error.status) == (fatal, transient, status)
    assert text in str(error)


@pytest.mark.parametrize("size", [1, 4])
def test_a_team_shares_the_parts_of_large_items(size: int) -> None:
    done: list[tuple[int, int]] = []
    pool: ThreadPool[int] = ThreadPool(size, lambda: None)

    def work(item: int) -> None:
        with pool.parts() as parts:
            for part in range(20):
                parts.add(lambda part=part: done.append((item, part)))  # type: ignore[misc]
        assert sum(mine == item for mine, _ in done) == 20

    pool.run(range(6), work)
    assert sorted(done) == [(item, part) for item in range(6) for part in range(20)]


def test_a_team_ends_with_the_first_error() -> None:
    before, stopped = set(threading.enumerate()), threading.Event()
    pool: ThreadPool[int] = ThreadPool(4, stopped.set)
    seen: list[int] = []

    def fail() -> None:
        raise ValueError("part 5")

    def work(item: int) -> None:
        seen.append(item)
        with pool.parts() as parts:
            for _ in range(30):
                parts.add(fail if item == 5 else lambda: None)

    with pytest.raises(ValueError, match="part 5"):
        pool.run(range(1000), work)
    assert stopped.is_set()
    assert len(seen) < 1000
    assert set(threading.enumerate()) == before


def test_an_interrupted_team_leaves_no_thread() -> None:
    before, stopped = set(threading.enumerate()), threading.Event()
    pool: ThreadPool[int] = ThreadPool(3, stopped.set)

    def wait(item: int) -> None:
        stopped.wait(60)

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run(range(10), wait, tick)
    assert set(threading.enumerate()) == before


def test_a_summary_says_it_in_one_line() -> None:
    summary = TransferSummary("upload", "place", "folder", Count(1, 1_500_000), Count(2, 10), seconds=0.5)
    assert summary.text() == "uploaded 1 file (1.5 MB), unchanged 2 files (10 B) in 0.5 s (3.0 MB/s)"
    assert summary.to_dict()["megabytes_per_second"] == 3.0
    summary.failures["x"] = "broken"
    summary.failed.add(2_000_000_000)
    assert "failed 1 file (2.0 GB)" in summary.text()
    assert not summary.ok
