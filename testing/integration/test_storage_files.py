"""What goes up comes down again: names, links, noise, changes, what is there already, and what is removed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import unicodedata
from pathlib import Path

import pytest
from azure.storage.blob import BlobBlock, ContentSettings
from testing.support.blob_containers import QUICK, Container, connection_string, contents, many, write
from testing.support.proxy import Proxy

from vision_mlops import storage
from vision_mlops.core.errors import DataError

BLOCK = 64 * 1024
NFC, NFD = unicodedata.normalize("NFC", "Übergröße é"), unicodedata.normalize("NFD", "Übergröße é")
NAMES = [
    f"{NFC}.jpg",
    f"{NFD}.jpg",
    "日本語/ファイル.png",
    "🙂.txt",
    " leading and trailing ",
    "a  b/c\u00a0d",
    "#hash?question%percent+plus&and=is;semi.txt",
    "100%25 %2F %zz/%",
    "~tilde'quote\"double<less>greater|pipe*star:colon",
    "comp=list",
    ".hidden/.file",
    "x" * 200 + ".txt",
    f"{'long folder ' * 15}/{'ä' * 120}",
    "-dash",
    "empty",
]


def put(container: Container, name: str, content: bytes = b"x", with_md5: bool = True) -> None:
    digest = bytearray(hashlib.md5(content, usedforsecurity=False).digest())
    client = container.client.get_blob_client(name)
    if with_md5:
        client.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_md5=digest))
    else:
        client.stage_block("one", content)
        client.commit_block_list([BlobBlock("one")])


def older(folder: Path) -> None:
    """Wait until what was written may be remembered."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    time.sleep(max(0.0, (newest + 2_100_000_000 - time.time_ns()) / 1e9))


def test_names_go_both_ways_byte_for_byte(container: Container, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {name: name.encode() if name != "empty" else b"" for name in NAMES})
    for path in ("", "a folder/ü#%?+"):
        place = (
            container.place(path)
            if not path
            else storage.locate(
                f"{container.account_url}/{container.name}/a%20folder/%C3%BC%23%25%3F+",
                environ={"AZURE_STORAGE_SAS_TOKEN": container.sas()},
            )
        )
        assert storage.upload(folder, place).transferred.files == len(NAMES)
        assert storage.upload(folder, place).unchanged.files == len(NAMES)
        out = tmp_path / f"out{len(path)}"
        assert storage.download(place, out).transferred.files == len(NAMES)
        assert contents(out) == contents(folder)
        prefix = f"{path}/" if path else ""
        listed = {name.removeprefix(prefix) for name in container.client.list_blob_names(name_starts_with=prefix)}
        assert listed == set(NAMES)
        container.client.delete_blobs(*container.client.list_blob_names())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"\xff\xfe.jpg", "is not UTF-8"),
        (b"ends.", "ends with a dot"),
        (b"folder./x", "ends with a dot"),
        (b"back\\slash", "backslash"),
        (b"new\nline", "control character"),
        (b"/".join([b"f" * 200] * 6), "longer than 1024"),
    ],
)
def test_what_cannot_be_a_blob_is_refused_before_anything_is_sent(
    container: Container, tmp_path: Path, name: bytes, message: str
) -> None:
    folder = write(tmp_path / "f", {"good.txt": b"good"})
    write(folder, {os.fsdecode(name): b"x"})
    with pytest.raises(DataError, match=rf"1 name cannot be used for blobs: .*{message}.*\n  -> rename") as raised:
        storage.upload(folder, container.place())
    str(raised.value).encode()  # it can be printed
    assert list(container.client.list_blob_names()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["data//etc/passwd"], "is absolute"),
        (["data/a//b"], "has an empty part"),
        (["data/Photo.jpg", "data/photo.JPG"], "only in upper and lower case"),
        (["data/a", "data/a/b"], "is both a file and a folder"),
        (["data/A", "data/a/b"], "is both a file and a folder"),
        ([f"data/{'x' * 300}"], "more than 255 bytes"),
    ],
)
def test_what_cannot_be_a_file_is_refused_before_anything_is_written(
    container: Container, tmp_path: Path, names: list[str], message: str
) -> None:
    for name in [*names, "data/good"]:
        put(container, name)
    with pytest.raises(DataError, match=f"name cannot be used for files: .*{message}"):
        storage.download(container.place(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"<Name>data/../../evil</Name>", "has a part . or .."),
        (b"<Name>data/a/./evil</Name>", "has a part . or .."),
        (b"<Name>data/a\\evil</Name>", "has a backslash"),
        (b'<Name Encoded="true">data/ev%00il</Name>', "has a control character"),
        (b'<Name Encoded="true">data/%2E%2E%2Fevil</Name>', "has a part . or .."),
    ],
)
def test_names_that_only_an_attacker_would_list(
    container: Container, proxy: Proxy, tmp_path: Path, name: bytes, message: str
) -> None:
    put(container, "data/good")
    put(container, "data/evil")
    proxy.trouble("swap", method="GET", part="comp=list", swap=(b"<Name>data/evil</Name>", name))
    with pytest.raises(DataError, match=f"1 name cannot be used for files: .*{message}"):
        storage.download(container.through(proxy.account_url).place(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_link_that_leads_out(container: Container, tmp_path: Path) -> None:
    put(container, "data/sub/inner/file")
    put(container, "data/link")
    put(container, "data/fine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_bytes(b"kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(tmp_path / "outside")
    (out / "link").symlink_to(tmp_path / "outside/kept")
    summary = storage.download(container.place(), out)
    assert list(summary.failures) == ["sub/inner/file"]
    assert "is a link to a place outside of" in summary.failures["sub/inner/file"]
    assert contents(tmp_path / "outside") == {"kept": b"kept"}
    assert not (out / "link").is_symlink()  # the link was replaced, not what it pointed to
    assert (out / "fine").read_bytes() == b"x"


def test_a_folder_where_a_file_shall_be_and_a_file_where_a_folder_shall_be(
    container: Container, tmp_path: Path
) -> None:
    for name in ("a", "b/c", "d"):
        put(container, f"data/{name}")
    out = write(tmp_path / "out", {"a/file": b"1", "b": b"2"})
    summary = storage.download(container.place(), out)
    assert sorted(summary.failures) == ["a", "b/c"]
    assert contents(out) == {"a/file": b"1", "b": b"2", "d": b"x"}


def test_links_are_followed_loops_are_not_and_noise_stays(container: Container, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "f", {"a/one": b"1", ".DS_Store": b"n", "a/Thumbs.db": b"n", ".ipynb_checkpoints/x": b"n"}
    )
    other = write(tmp_path / "other", {"two": b"2"})
    (folder / "file-link").symlink_to(other / "two")
    (folder / "folder-link").symlink_to(other)
    (folder / "again").symlink_to(other)
    (folder / "a/loop").symlink_to(folder)
    put(container, "data/.DS_Store", b"of somebody")
    storage.upload(folder, container.place(), delete_all=True)
    found = container.contents()
    assert found.pop(".DS_Store") == b"of somebody"
    assert found == {"a/one": b"1", "file-link": b"2", "folder-link/two": b"2", "again/two": b"2"}


def test_links_to_nothing_and_special_files_are_refused(container: Container, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a": b"1"})
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(DataError, match="broken' is a broken link"):
        storage.upload(folder, container.place())
    (folder / "broken").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="pipe' is neither a file nor a folder"):
        storage.upload(folder, container.place())


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "noise"])
def test_a_folder_without_files_changes_nothing(container: Container, tmp_path: Path, kind: str) -> None:
    put(container, "data/there")
    folder = tmp_path / "f"
    if kind == "file":
        folder.write_bytes(b"x")
    elif kind != "missing":
        write(folder, {".DS_Store": b"x"}) if kind == "noise" else (folder / "a/b").mkdir(parents=True)
    with pytest.raises(DataError, match=r"does not exist|is a file|contains no files"):
        storage.upload(folder, container.place(), delete_all=True)
    assert container.contents() == {"there": b"x"}


def test_nothing_in_storage_changes_nothing_here(container: Container, tmp_path: Path) -> None:
    out = write(tmp_path / "out", {"kept": b"1"})
    with pytest.raises(DataError, match="contains no files"):
        storage.download(container.place("nowhere"), out, delete_all=True)
    assert contents(out) == {"kept": b"1"}


@pytest.mark.slow
def test_only_what_differs_is_sent(container: Container, proxy: Proxy, tmp_path: Path) -> None:
    files = {**many(5, 3000), "large": os.urandom(200_000), "empty": b""}
    folder = write(tmp_path / "f", files)
    place = container.through(proxy.account_url).place()
    assert storage.upload(folder, place, block=BLOCK).transferred.files == len(files)
    older(folder)
    for _ in range(2):  # hashed, then remembered
        proxy.calm()
        assert storage.upload(folder, place, block=BLOCK).unchanged.files == len(files)
        assert proxy.count("PUT") == 0
    # The same size and the same time, as a copy that keeps times would leave it.
    facts = (folder / "0/00000.bin").stat()
    (folder / "0/00000.bin").write_bytes(b"y" * 3000)
    os.utime(folder / "0/00000.bin", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (folder / "large").write_bytes(files["large"][:-1] + b"!")
    summary = storage.upload(folder, place, block=BLOCK)
    assert summary.transferred.files == 2
    assert proxy.count("PUT", "comp=block&") == 1  # only the last block of the large one
    assert container.contents() == contents(folder)


@pytest.mark.slow
def test_checksum_trusts_no_memory(container: Container, tmp_path: Path, home: Path) -> None:
    import sqlite3

    folder = write(tmp_path / "f", {"a": b"one", "b": b"two"})
    storage.upload(folder, container.place())
    older(folder)
    storage.upload(folder, container.place())
    (folder / "a").write_bytes(b"ONE")
    facts = (folder / "a").stat()
    with sqlite3.connect(home / "cache/fingerprints.db") as memory:  # as on a drive that lies about times
        changed = memory.execute("UPDATE blob_md5 SET time = ? WHERE path LIKE '%/a'", (facts.st_ctime_ns,)).rowcount
    memory.close()
    assert changed == 1
    assert storage.upload(folder, container.place()).transferred.files == 0
    assert storage.upload(folder, container.place(), checksum=True).transferred.files == 1
    assert container.contents() == contents(folder)


@pytest.mark.slow
def test_blobs_without_an_md5(container: Container, proxy: Proxy, tmp_path: Path) -> None:
    for name in ("data/a", "data/large"):
        put(container, name, os.urandom(150_000 if "large" in name else 10), with_md5=False)
    place, out = container.through(proxy.account_url).place(), tmp_path / "out"
    proxy.trouble("damage answer", method="GET", part="/data/")
    proxy.trouble("damage answer", method="GET", part="/data/large")
    summary = storage.download(place, out, patience=QUICK, block=BLOCK)
    assert summary.transferred.files == 2
    assert contents(out) == {name: container.client.download_blob(f"data/{name}").readall() for name in ("a", "large")}
    older(out)
    assert storage.download(place, out, block=BLOCK).transferred.files == 2  # they were too new to be remembered
    summary = storage.upload(out, container.place(), block=BLOCK)
    assert summary.transferred.files == 2  # and get one
    assert container.contents() == contents(out)


def test_a_download_is_the_mirror(container: Container, proxy: Proxy, tmp_path: Path) -> None:
    files = {**many(5, 3000), "large": os.urandom(200_000)}
    place, out = container.through(proxy.account_url).place(), tmp_path / "out"
    storage.upload(write(tmp_path / "f", files), place, block=BLOCK)
    assert storage.download(place, out, block=BLOCK).transferred.files == len(files)
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "2", "3", "4", "large"]
    proxy.calm()
    assert storage.download(place, out, block=BLOCK).unchanged.files == len(files)
    assert proxy.count("GET") == 1
    (out / "0/00000.bin").write_bytes(b"z" * 3000)
    (out / "1/00001.bin").unlink()
    assert storage.download(place, out, block=BLOCK).transferred.files == 2
    assert contents(out) == files


def test_delete_removes_at_both_sides_what_is_not_at_the_other(container: Container, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"kept": b"1", "sub/gone": b"2"})
    place, out = container.place(), tmp_path / "out"
    put(container, "database/not ours")
    storage.upload(folder, place)
    storage.download(place, out)
    shutil.rmtree(folder / "sub")
    summary = storage.upload(folder, place, delete=True, dry_run=True)
    assert (summary.to_delete, summary.deleted.files) == (["sub/gone"], 0)
    assert "sub/gone" in container.contents()
    assert storage.upload(folder, place).deleted.files == 0
    assert storage.upload(folder, place, delete=True).deleted.files == 1
    assert container.contents() == {"kept": b"1"}
    assert storage.download(place, out, delete=True, dry_run=True).to_delete == ["sub/gone"]
    assert (out / "sub/gone").exists()
    assert storage.download(place, out, delete=True).deleted.files == 1
    assert sorted(out.iterdir()) == [out / "kept"]
    assert list(container.client.list_blob_names(name_starts_with="database/")) == ["database/not ours"]


def test_delete_leaves_what_links_lead_to(container: Container, tmp_path: Path) -> None:
    put(container, "data/kept")
    out = write(tmp_path / "out", {"kept": b"x", "gone": b"2"})
    other = write(tmp_path / "other", {"ours": b"3"})
    (out / "folder").symlink_to(other)
    (out / "nowhere").symlink_to("nothing")
    summary = storage.download(container.place(), out, delete=True)
    assert summary.to_delete == ["gone"]
    assert contents(other) == {"ours": b"3"}
    assert (out / "nowhere").is_symlink()


def test_progress_reaches_the_end(container: Container, tmp_path: Path) -> None:
    files = {**many(5, 3000), "large": os.urandom(200_000)}
    folder, told = write(tmp_path / "f", files), []
    storage.upload(folder, container.place(), block=BLOCK, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (6, 6, 215_000, 215_000)
    told.clear()
    storage.download(container.place(), tmp_path / "out", block=BLOCK, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (6, 6, 215_000, 215_000)


def test_delete_refuses_to_remove_everything(container: Container, tmp_path: Path) -> None:
    put(container, "data/old")
    folder = write(tmp_path / "f", {"new": b"1"})
    with pytest.raises(DataError, match=r"would remove everything that is in http.*\(1 file\).*\n.*--delete-all"):
        storage.upload(folder, container.place(), delete=True)
    assert container.contents() == {"old": b"x"}
    with pytest.raises(DataError, match=r"would remove everything that is in .*/f"):
        storage.download(container.place(), folder, delete=True)
    assert contents(folder) == {"new": b"1"}
    assert storage.upload(folder, container.place(), delete_all=True).deleted.files == 1
    assert container.contents() == {"new": b"1"}


def test_nothing_is_deleted_when_something_failed(container: Container, proxy: Proxy, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a": b"1", "b": b"2"})
    put(container, "data/a")
    put(container, "data/old")
    place = container.through(proxy.account_url).place()
    proxy.trouble("cut request", method="PUT", part="/data/b", times=100)
    summary = storage.upload(folder, place, delete=True, patience=QUICK)
    assert (list(summary.failures), summary.deleted.files) == (["b"], 0)
    assert "old" in container.contents()


def test_a_dry_run_changes_nothing(container: Container, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a": b"1", "large": b"2" * 100_000})
    summary = storage.upload(folder, container.place(), dry_run=True, block=BLOCK)
    assert (summary.transferred.files, summary.transferred.bytes) == (2, 100_001)
    assert list(container.client.list_blob_names()) == []
    storage.upload(folder, container.place(), block=BLOCK)
    summary = storage.download(container.place(), tmp_path / "out", dry_run=True, block=BLOCK)
    assert summary.transferred.files == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("times", [1, 100])
def test_a_file_that_changes_while_it_is_read(container: Container, proxy: Proxy, tmp_path: Path, times: int) -> None:
    folder = write(tmp_path / "f", {"a": b"1", "large": b"\0" * 300_000})
    put(container, "data/large", b"old")
    place = container.through(proxy.account_url).place()

    def change() -> None:
        with (folder / "large").open("r+b") as stream:
            stream.seek(280_000)
            stream.write(os.urandom(10))

    proxy.trouble("watch", method="PUT", part="comp=block&", times=times, before=change)
    summary = storage.upload(folder, place, block=BLOCK, patience=QUICK)
    if times == 1:
        assert summary.ok, summary.failures
        assert container.contents() == contents(folder)
    else:
        assert "changed while it was read" in summary.failures["large"]
        assert container.contents() == {"a": b"1", "large": b"old"}


def test_a_file_that_vanishes_is_reported(container: Container, proxy: Proxy, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a": b"1", "b": b"2", "c": b"3"})
    place = container.through(proxy.account_url).place()

    def remove() -> None:
        for name in ("a", "b", "c"):
            if f"/data/{name}?" not in proxy.seen[-1].target:
                (folder / name).unlink()

    proxy.trouble("watch", method="PUT", before=remove)
    summary = storage.upload(folder, place, jobs=1, patience=QUICK)
    assert len(summary.failures) == 2
    assert all("was removed" in reason for reason in summary.failures.values())
    assert len(container.contents()) == 1


def test_blocks_of_another_program(container: Container, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"short": os.urandom(200_000), "long": os.urandom(200_000)})
    container.client.get_blob_client("data/short").stage_block("x" * 8, b"of another program")
    container.client.get_blob_client("data/long").stage_block("y" * 60, b"of another program")
    assert storage.upload(folder, container.place(), block=BLOCK, patience=QUICK).ok
    assert container.contents() == contents(folder)
    write(folder, {"impossible": os.urandom(200_000)})
    container.client.get_blob_client("data/impossible").stage_block("x", b"of another program")
    summary = storage.upload(folder, container.place(), block=BLOCK, patience=QUICK)
    assert "another program left parts" in summary.failures["impossible"]


def test_folder_markers_are_no_files(container: Container, tmp_path: Path) -> None:
    container.client.upload_blob("data/sub", b"", metadata={"hdi_isfolder": "true"})
    container.client.upload_blob("data/other/", b"")
    put(container, "data/sub/file")
    assert storage.download(container.place(), tmp_path / "out").transferred.files == 1
    assert contents(tmp_path / "out") == {"sub/file": b"x"}


def test_only_one_download_into_a_folder(container: Container, tmp_path: Path) -> None:
    from vision_mlops.core import locks

    put(container, "data/a")
    lock = locks.take(tmp_path / "out/.mlops-download/lock")
    assert lock is not None
    with lock, pytest.raises(DataError, match=r"another download into .* is running"):
        storage.download(container.place(), tmp_path / "out")
    assert storage.download(container.place(), tmp_path / "out").ok


def test_a_container_is_made_when_asked(container: Container, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a": b"1"})
    name = f"{container.name}-new"
    environ = {"AZURE_STORAGE_CONNECTION_STRING": connection_string(container.account_url)}
    place = storage.locate(f"{container.account_url}/{name}/data", environ=environ)
    assert storage.upload(folder, place, create_container=True, dry_run=True).transferred.files == 1
    assert storage.upload(folder, place, create_container=True).transferred.files == 1
    assert storage.upload(folder, place, create_container=True).unchanged.files == 1


@pytest.mark.slow
def test_ten_thousand_files_and_a_large_one(container: Container, tmp_path: Path) -> None:
    files = {**many(10_000, 100), "large": os.urandom(80_000_000)}
    folder = write(tmp_path / "f", files)
    assert storage.upload(folder, container.place(), block=1024 * 1024).transferred.files == 10_001
    assert storage.upload(folder, container.place(), block=1024 * 1024).unchanged.files == 10_001
    summary = storage.download(container.place(), tmp_path / "out", block=1024 * 1024)
    assert summary.transferred.bytes == sum(map(len, files.values()))
    assert contents(tmp_path / "out") == files
    blob = container.client.get_blob_client("data/large")
    assert len(blob.get_block_list("committed")[0]) == 77
    digest = hashlib.md5(files["large"], usedforsecurity=False).digest()
    assert blob.get_blob_properties().content_settings.content_md5 == bytearray(digest)
