"""Transfers while storage or the network fails: what is reported, and that the same command then completes."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from azure.storage.blob import ContentSettings
from testing.support.blob_containers import QUICK, Container, contents, many, write
from testing.support.proxy import Kind, Proxy

from vision_mlops import storage
from vision_mlops.core.errors import AzureError
from vision_mlops.storage.attempts import StorageRetryPolicy
from vision_mlops.storage.blob_service import BlobService
from vision_mlops.storage.service_errors import RefusalError

BLOCK = 64 * 1024
FILES = {**many(12, 5000), "large.bin": bytes(range(256)) * 1300}  # the large one is 5 blocks and a rest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "folder", FILES)


@pytest.fixture
def through(container: Container, proxy: Proxy) -> Container:
    return container.through(proxy.account_url)


def upload(
    folder: Path, place: storage.BlobFolder, patience: StorageRetryPolicy = QUICK, *, delete: bool = False
) -> storage.TransferSummary:
    return storage.upload(folder, place, patience=patience, block=BLOCK, jobs=4, delete=delete)


def download(place: storage.BlobFolder, out: Path, patience: StorageRetryPolicy = QUICK) -> storage.TransferSummary:
    return storage.download(place, out, patience=patience, block=BLOCK, jobs=4)


def check(summary: storage.TransferSummary, container: Container, transferred: int = len(FILES)) -> None:
    assert summary.ok, summary.failures
    assert (summary.transferred.files, summary.unchanged.files) == (transferred, len(FILES) - transferred)
    assert container.contents() == FILES


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (kind, part)
        for part in ("00003.bin", "comp=blocklist", "comp=block&")
        for kind in ("cut request", "lose answer", "damage request")
        if (kind, part) != ("damage request", "comp=blocklist")  # a list of blocks has no MD5: only TLS protects it
    ],
)
def test_an_upload_survives_two_broken_requests(
    container: Container, through: Container, proxy: Proxy, folder: Path, kind: Kind, part: str
) -> None:
    trouble = proxy.trouble(kind, method="PUT", part=part, times=2)
    check(upload(folder, through.place()), container)
    # What is asked for again after a lost answer is refused, as it is there already: that counts as done.
    assert trouble.struck == 2


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (kind, part)
        for part in ("00003.bin", "large.bin", "comp=list")
        for kind in ("cut answer", "lose answer", "damage answer")
        if (kind, part) != ("damage answer", "comp=list")  # nor has a listing
    ],
)
def test_a_download_survives_two_broken_answers(
    container: Container, through: Container, proxy: Proxy, folder: Path, tmp_path: Path, kind: Kind, part: str
) -> None:
    upload(folder, container.place())
    trouble = proxy.trouble(kind, method="GET", part=part, times=2)
    summary = download(through.place(), tmp_path / "out")
    assert summary.ok, summary.failures
    assert trouble.struck == 2
    assert contents(tmp_path / "out") == FILES


@pytest.mark.slow
def test_an_answer_that_does_not_come_is_asked_for_again(
    container: Container, through: Container, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    impatient = StorageRetryPolicy(attempts=10, first=0.02, longest=0.1, silence=0.3)
    proxy.trouble("stall", method="PUT", part="00002.bin", seconds=1000)  # no test lasts as long
    check(upload(folder, through.place(), impatient), container)
    proxy.trouble("stall", method="GET", part="00002.bin", seconds=1000)
    assert download(through.place(), tmp_path / "out", impatient).ok
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "7"}])
def test_a_busy_service_is_asked_again_when_it_says(
    container: Container,
    through: Container,
    proxy: Proxy,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(BlobService, "rest", lambda service, seconds: rests.append(seconds) if seconds else None)
    proxy.trouble("answer", method="PUT", part="00004.bin", times=1, status=503, headers=headers)
    proxy.trouble("answer", method="GET", part="comp=list", times=1, status=503)
    check(upload(folder, through.place()), container)
    least, most = sorted(rests)
    assert 0.5 * QUICK.first <= least <= 1.5 * QUICK.first
    assert most == 7 if headers else most <= 1.5 * QUICK.first


def test_a_file_that_fails_does_not_stop_the_others(
    container: Container, through: Container, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    proxy.trouble("cut request", method="PUT", part="00005.bin", times=1000)
    summary = upload(folder, through.place(), delete=True)
    assert list(summary.failures) == ["5/00005.bin"]
    assert "the connection to 127.0.0.1" in summary.failures["5/00005.bin"]
    assert (summary.transferred.files, summary.failed.files, summary.failed.bytes) == (len(FILES) - 1, 1, 5000)
    proxy.calm()
    check(upload(folder, through.place()), container, transferred=1)
    proxy.trouble("damage answer", method="GET", part="00005.bin", times=1000)
    summary = download(through.place(), tmp_path / "out")
    assert list(summary.failures) == ["5/00005.bin"]
    assert "does not match the MD5" in summary.failures["5/00005.bin"]
    assert not (tmp_path / "out/5/00005.bin").exists()
    proxy.calm()
    assert download(through.place(), tmp_path / "out").transferred.files == 1
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("skip", [0, 6])
def test_a_refusal_ends_all_at_once(
    container: Container, through: Container, proxy: Proxy, folder: Path, tmp_path: Path, skip: int
) -> None:
    proxy.trouble("answer", method="PUT", times=1000, skip=skip, status=403, code="AuthorizationPermissionMismatch")
    before = set(threading.enumerate())
    with pytest.raises(
        RefusalError, match=r"HTTP 403 AuthorizationPermissionMismatch\)\n  -> create the signature"
    ) as raised:
        upload(folder, through.place())
    assert raised.value.status == 403
    # Each of four threads is refused once, and before that perhaps with a block of the large file, which fails as a whole.
    # All 19 would be 12 small files, 6 blocks, and the list of the blocks.
    assert proxy.count("PUT") <= skip + 8
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert [name for name in left if "process_request" not in name] == [], "only the proxy's threads go on"
    proxy.calm()
    summary = upload(folder, through.place())
    assert summary.transferred.files <= len(FILES) - max(0, skip - 5)
    assert container.contents() == FILES


def test_a_service_that_goes_away_ends_all(
    container: Container, through: Container, proxy: Proxy, folder: Path
) -> None:
    proxy.trouble("cut request", times=100_000, skip=5)
    with pytest.raises(
        AzureError, match=r"the connection to 127.0.0.1:\d+ failed: it was cut\n  -> check the network, then"
    ):
        upload(folder, through.place())
    proxy.calm()
    upload(folder, through.place())
    assert container.contents() == FILES


def test_what_somebody_else_writes_meanwhile_is_not_lost(
    container: Container, through: Container, proxy: Proxy, folder: Path
) -> None:
    def write_it() -> None:
        container.client.upload_blob("data/3/00003.bin", b"of somebody else", overwrite=True)

    proxy.trouble("cut request", method="PUT", part="00003.bin", before=write_it)
    summary = upload(folder, through.place())
    assert list(summary.failures) == ["3/00003.bin"]
    assert "somebody else changed it in storage in the meantime" in summary.failures["3/00003.bin"]
    assert container.client.download_blob("data/3/00003.bin").readall() == b"of somebody else"
    check(upload(folder, through.place()), container, transferred=1)


def test_blobs_that_change_or_vanish_while_they_are_fetched(
    container: Container, through: Container, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    upload(folder, container.place())

    def change() -> None:

        digest = bytearray(hashlib.md5(b"newer", usedforsecurity=False).digest())
        settings = ContentSettings(content_md5=digest)
        container.client.upload_blob("data/3/00003.bin", b"newer", overwrite=True, content_settings=settings)
        container.client.upload_blob("data/large.bin", b"newer", overwrite=True, content_settings=settings)

    proxy.trouble("cut answer", method="GET", part="00003.bin", before=change)
    proxy.trouble(
        "cut answer", method="GET", part="00004.bin", before=lambda: container.client.delete_blob("data/4/00004.bin")
    )
    summary = download(through.place(), tmp_path / "out")
    assert list(summary.failures) == ["4/00004.bin"]
    assert "removed in storage" in summary.failures["4/00004.bin"]
    assert contents(tmp_path / "out")["3/00003.bin"] == b"newer"
    download(through.place(), tmp_path / "out")
    assert {name: text for name, text in contents(tmp_path / "out").items() if name[0] != "."} == container.contents()


def test_a_redirect_is_refused_and_takes_no_signature_along(through: Container, proxy: Proxy, folder: Path) -> None:
    place = through.place()
    proxy.trouble("answer", times=10, status=307, headers={"Location": "http://127.0.0.1:9/?" + place.sign_in.query()})
    with pytest.raises(RefusalError, match="redirects") as raised:
        upload(folder, place)
    assert "sig=" not in str(raised.value)
    assert proxy.count("GET") == 1
