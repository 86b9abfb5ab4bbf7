"""Archives of strangers: what is harmful is refused by name before anything is written, and what is plain is laid out."""

from __future__ import annotations

import bz2
import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from testing.support.archives import dog_images, dog_paths, matlab_list, member, picture, tar_of, zip_of

from vision_mlops.config.workload import Download
from vision_mlops.core.errors import DataError
from vision_mlops.data.fetch.archives import ArchiveError, Budget, Names, entries, kind_of
from vision_mlops.data.fetch.class_layout import Layout, lay_out
from vision_mlops.data.fetch.published_splits import assign_splits, read_list

FILES = {"a/1.jpg": b"one" * 500, "a/2.jpg": b"", "b/deep/er/3.jpg": b"three", "README": b"text"}
SMALL = 10_000_000


def read(content: bytes, tmp_path: Path, size: int = SMALL, files: int = 1000) -> dict[str, bytes]:
    path = tmp_path / "archive"
    path.write_bytes(content)
    return {entry.name: b"".join(entry.chunks()) for entry in entries(path, "evil.tar", Budget(size, files))}


def refused(content: bytes, tmp_path: Path, **limits: int) -> str:
    path = tmp_path / "archive"
    path.write_bytes(content)

    def both_times() -> None:
        """As it is done: all names first, then all contents."""
        for reading in (False, True):
            for entry in entries(path, "evil.tar", Budget(limits.get("size", SMALL), limits.get("files", 1000))):
                assert not reading or entry.size == sum(len(content) for content in entry.chunks())

    with pytest.raises(DataError) as caught:
        both_times()
    assert caught.value.hint
    assert str(caught.value).startswith("evil.tar: ")
    return caught.value.message


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("tar", tar_of(FILES)),
        ("gz", tar_of(FILES, "gz")),
        ("bz2", tar_of(FILES, "bz2")),
        ("xz", tar_of(FILES, "xz")),
        ("zip", zip_of(FILES)),
    ],
)
def test_kinds(tmp_path: Path, kind: str, content: bytes) -> None:
    assert read(content, tmp_path) == FILES
    assert kind_of(tmp_path / "archive") == kind


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_dots_junk_and_hidden_files(tmp_path: Path, make: Any) -> None:
    junk = ["__MACOSX/a/1.jpg", "__MACOSX/._a", "a/._1.jpg", "a/.DS_Store", ".git/config"]
    assert read(make({"./a//1.jpg": b"x", **dict.fromkeys(junk, b"junk")}), tmp_path) == {"a/1.jpg": b"x"}


def test_folders_are_no_files(tmp_path: Path) -> None:
    assert read(tar_of({"a/1": b"x"}, more=[member("a", tarfile.DIRTYPE), member("empty/", tarfile.DIRTYPE)]), tmp_path)
    assert read(zip_of({"a/": b"", "a/1": b"x"}, {"a/": 0o40755}), tmp_path) == {"a/1": b"x"}


NAMES = {
    "/etc/passwd": "is absolute",
    "C:/x.jpg": "is absolute",
    "../x.jpg": "leaves its folder",
    "a/../../x.jpg": "leaves its folder",
    "a/..": "leaves its folder",
    "a/x\n.jpg": "has control characters",
    "a/\x1b[2J.jpg": "has control characters",
    "a/" + "x" * 250 + ".jpg": "is too long",
    "a/" * 600 + "x.jpg": "is too long",
}


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path: Path, make: Any, name: str) -> None:
    message = refused(make({"a/ok.jpg": b"x", name: b"evil"}), tmp_path)
    assert message == f"evil.tar: the name {name[:200]!r} {NAMES[name]}"


BACKSLASHES = {
    "a\\..\\x.jpg": "leaves its folder",
    "..\\x.jpg": "leaves its folder",
    "\\x.jpg": "is absolute",
    "\\\\server\\x.jpg": "is absolute",
    "C:\\x.jpg": "is absolute",
}


@pytest.mark.parametrize("name", BACKSLASHES)
def test_backslashes(tmp_path: Path, name: str) -> None:
    harmful = {"a/ok.jpg": b"x", name: b"evil"}
    assert refused(zip_of(harmful), tmp_path).endswith(BACKSLASHES[name])
    assert refused(tar_of({"a/ok.jpg": b"x", "a\\x.jpg": b"evil"}), tmp_path).endswith("has a backslash")


def test_backslashes_of_windows_are_slashes_in_a_zip(tmp_path: Path) -> None:
    content = {"photos\\cat\\0.jpg": b"0", "photos\\cat/1.jpg": b"1", "photos\\empty\\": b""}
    assert read(zip_of(content), tmp_path) == {"photos/cat/0.jpg": b"0", "photos/cat/1.jpg": b"1"}
    folders: set[str] = set()
    list(entries(tmp_path / "archive", "x.zip", Budget(SMALL), folders))
    assert folders == {"photos/empty"}


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    assert "is not UTF-8" in refused(tar_of({"a/caf\udce9.jpg": b"x"}), tmp_path)


@pytest.mark.parametrize(
    ("type_", "what"),
    [
        (tarfile.SYMTYPE, "a link to '/etc/passwd'"),
        (tarfile.LNKTYPE, "a link to '/etc/passwd'"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"Z", "of an unknown type"),
    ],
)
@pytest.mark.parametrize("compression", ["", "gz"])
def test_what_is_no_file(tmp_path: Path, type_: bytes, what: str, compression: Any) -> None:
    content = tar_of({"a/1.jpg": b"x"}, compression, [member("a/evil.jpg", type_, "/etc/passwd")])
    assert refused(content, tmp_path) == f"evil.tar: 'a/evil.jpg' is {what}, not a file"


@pytest.mark.parametrize(
    ("mode", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "not a file"), (stat.S_IFIFO, "not")]
)
def test_what_is_no_file_in_a_zip(tmp_path: Path, mode: int, what: str) -> None:
    message = refused(zip_of({"a/1.jpg": b"x", "a/e.jpg": b"/etc"}, {"a/e.jpg": mode | 0o777}), tmp_path)
    assert message.startswith(f"evil.tar: 'a/e.jpg' is {what}")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a/1.jpg": b"x"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert refused(bytes(content), tmp_path) == "evil.tar: 'a/1.jpg' is encrypted"


@pytest.mark.slow
def test_bombs(tmp_path: Path) -> None:
    """A hundred megabytes of zeros; nothing of them is unpacked, as their size is known before."""
    zeros = {"a/1.jpg": bytes(100_000_000)}
    for content in (tar_of(zeros, "gz"), zip_of(zeros)):
        assert len(content) < 200_000
        path = tmp_path / "archive"
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(DataError, match="its content is larger than the limit") as caught:
            list(entries(path, "evil.tar", Budget(SMALL)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "--max-size" in caught.value.hint
        assert peak < 5_000_000
    many = {f"a/{number}.jpg": b"" for number in range(1001)}
    assert "has too many files" in refused(tar_of(many), tmp_path)
    assert "has too many files" in refused(zip_of(many), tmp_path)


def test_a_header_that_wants_memory(tmp_path: Path) -> None:
    """Names in the extended headers of tar are read whole: one of a gigabyte must not be."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    assert "a header of 1,073,741,824 bytes" in refused(gzip.compress(header.tobuf() + bytes(10_000)), tmp_path)


def test_a_zip_that_lies_about_its_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_mlops.data.fetch.archives.MAX_FILES", 50)
    assert "has too many files" in refused(zip_of({f"a/{number}": b"" for number in range(51)}), tmp_path)


def test_a_zip_whose_sizes_lie(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a/1.jpg": b"x" * 5000}))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    assert "damaged or cut off" in refused(bytes(content), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        tar_of(FILES)[:700],  # in a content
        tar_of(FILES)[:1024],  # after one
        tar_of(FILES)[:2560],  # between two files
        tar_of(FILES)[:2800],  # in a header
        tar_of(FILES, "gz")[:-20],
        tar_of(FILES, "gz")[:-8] + bytes(8),  # the checksum
        tar_of(FILES, "bz2")[:-20],
        tar_of(FILES, "xz")[:-30],
        zip_of(FILES)[:-30],
        zip_of(FILES)[:45] + bytes(5) + zip_of(FILES)[50:],
        gzip.compress(b"no tar"),
        bz2.compress(b"no tar"),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=[  # compressed bytes hold the time
        "tar cut in a content", "tar cut after one", "tar cut between files", "tar cut in a header", "gz cut", "gz checksum",
        "bz2 cut", "xz cut", "zip cut", "zip zeroed", "gz without tar", "bz2 without tar", "zip header alone",
    ],
)  # fmt: skip
def test_damage(tmp_path: Path, content: bytes) -> None:
    assert refused(content, tmp_path).startswith(("evil.tar: the archive is damaged or cut off", "evil.tar: not an"))


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    content = bytearray(tar_of({f"a/{number}.jpg": b"x" * 512 for number in range(5)}))
    content[2 * 1024 + 148] ^= 1
    assert "its end marker is missing" in refused(bytes(content), tmp_path)


def test_a_tar_that_does_not_end(tmp_path: Path) -> None:
    content = gzip.compress(tar_of({"a/1.jpg": b"x"}) + bytes(70 * 2**20), 1)
    assert "it continues after its end" in refused(content, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html><body>Sorry</body></html>", "it is a web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "its first bytes match no known format"),
    ],
)
def test_no_archives(tmp_path: Path, content: bytes, message: str) -> None:
    assert refused(content, tmp_path) == f"evil.tar: not an archive: {message}"


def test_a_rare_compression(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a/1.jpg": b"x" * 100}))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 9  # Deflate64
    assert "cannot be read" in refused(bytes(content), tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("a/1.jpg", "a/1.JPG"),
        ("a/1.jpg", "A/2.jpg"),
        ("a/\u00e9.jpg", "a/e\u0301.jpg"),
        ("a/1.jpg", "a/1.jpg/x.jpg"),
        ("a/1.jpg/x.jpg", "a/1.jpg"),
        ("stra\u00dfe/1.jpg", "STRASSE/2.jpg"),
    ],
)
def test_names_that_are_the_same_somewhere(first: str, second: str) -> None:
    names = Names()
    names.add("evil.tar", first)
    names.add("evil.tar", "a/other.jpg")
    with pytest.raises(ArchiveError, match="occurs twice, perhaps in another case"):
        names.add("evil.tar", second)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(tar_of({f"a/{number:06d}.jpg": b"" for number in range(4_000)}, "gz"))
    tracemalloc.start()
    count = sum(1 for _ in entries(path, "x", Budget(SMALL, 10**6)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4_000
    assert peak < 1_500_000


def plan(names: list[str], lists: Mapping[Any, list[str]] | None = None, **settings: Any) -> Layout:
    download = Download.model_validate({"archives": [{"url": "http://localhost/x"}], **settings})
    return lay_out(names, download, lists)


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (["a/1.jpg", "b/2.PNG", "notes.txt"], ["a/1.jpg", "b/2.PNG"]),
        (["x/y/a/1.jpg", "x/y/b/2.jpg"], ["a/1.jpg", "b/2.jpg"]),
        (["x/a/1.jpg", "x/a/2.jpg"], ["a/1.jpg", "a/2.jpg"]),
        (["x/a/1.jpg", "x/a/deep/2.jpg"], ["a/1.jpg", "a/deep/2.jpg"]),
        (["x/logo.jpg", "x/a/1.jpg", "x/b/1.jpg"], ["a/1.jpg", "b/1.jpg"]),
        (["x/train/a/1.jpg", "x/test/a/2.jpg"], ["train/a/1.jpg", "test/a/2.jpg"]),
        (["Training/a/1.jpg", "Testing/b/2.jpg"], ["train/a/1.jpg", "test/b/2.jpg"]),
        (["train/a/1.jpg", "train/b/2.jpg"], ["a/1.jpg", "b/2.jpg"]),
    ],
)
def test_where_images_go(names: list[str], targets: list[str]) -> None:
    assert sorted(plan(names).targets.values()) == sorted(targets)


def test_the_folder_and_the_class_that_are_set() -> None:
    names = ["x/docs/fig.jpg", "x/images/n01-Cat/1.jpg", "x/images/n02-Dog/2.jpg", "x/images/loose.jpg"]
    layout = plan(names, images="x/images", label_pattern=r"n\d+-(.+)")
    assert sorted(layout.targets.values()) == ["Cat/1.jpg", "Dog/2.jpg"]
    assert layout.counts == {"all": {"Cat": 1, "Dog": 1}}
    assert layout.loose == ["x/docs/fig.jpg", "x/images/loose.jpg"]


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["notes.txt", "a.xml"], {}, "no images in class folders: it has 1 .txt, 1 .xml"),
        ([], {}, "it has nothing"),
        (["1.jpg"], {}, "the archive has no images in class folders"),
        (["a/1.jpg"], {"images": "b"}, "no images in class folders below 'b'"),
        (["a/1.jpg", "b/1.jpg"], {"label_pattern": "n(.+)"}, "folder 'a' gives no class name with the pattern 'n(.+)'"),
        (
            ["n1-a/1.jpg", "n2-A/1.jpg"],
            {"label_pattern": "n.-(.+)"},
            "folders 'n1-a' and 'n2-A' give the same class 'A'",
        ),
        (["a.b/1.jpg", "b/1.jpg"], {"label_pattern": "a?(.+)"}, "'a.b' gives no class name"),
        (["train/a/1.jpg", "docs/b/1.jpg"], {}, "docs is next to train, which may be a split or classes"),
    ],
)
def test_layouts_that_are_none(names: list[str], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        plan(names, **settings)
    assert message in caught.value.message
    assert caught.value.hint


def test_published_splits() -> None:
    lists = {"train": dog_paths("train"), "test": dog_paths("test")[1:]}
    layout = plan([*dog_images()], lists, images="Images", label_pattern=r"n\d{8}-(.+)")
    assert layout.targets["Images/n02085620-Chihuahua/n02085620_3.jpg"] == "train/Chihuahua/n02085620_3.jpg"
    assert layout.counts["test"] == {"Chihuahua": 3, "Shih-Tzu": 4, "Italian_greyhound": 4}
    assert layout.unlisted == [f"Images/{dog_paths('test')[0]}"]


def test_lists_may_leave_out_suffixes_or_name_the_outer_folder() -> None:
    lists = {"train": ["a/1", "Images/b/1"], "test": ["a/2.jpg", "b/2.v1"]}
    layout = plan([f"Images/{name}.jpg" for name in ("a/1", "a/2", "b/1", "b/2.v1")], lists, images="Images")
    assert sorted(layout.targets.values()) == ["test/a/2.jpg", "test/b/2.v1.jpg", "train/a/1.jpg", "train/b/1.jpg"]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["a/1.jpg", "a/9.jpg"]}, "1 image of the split lists is not in the archives: a/9.jpg"),
        (
            {"train": ["a/9.jpg"] * 7},
            "7 images of the split lists are not in the archives: a/9.jpg, a/9.jpg, a/9.jpg, ",
        ),
        ({"train": ["a/1.jpg"], "test": ["a/1"]}, "a/1.jpg is in the lists of train and test"),
        ({"train": ["a/1.png"]}, "not in the archives: a/1.png"),
        ({"train": ["/a/1.jpg"], "test": ["../a/1.jpg"]}, "2 images"),
    ],
)
def test_lists_that_do_not_fit(lists: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        assign_splits(lists, ["a/1.jpg", "a/2.jpg"])
    assert message in caught.value.message


def test_lists_as_text_and_as_matlab() -> None:
    paths = dog_paths("test")
    assert read_list(matlab_list(paths), "x.mat") == paths
    assert read_list(matlab_list(paths[:1]), "x.mat") == paths[:1]
    assert read_list(matlab_list(paths), "x.mat", "annotation_list")[0] == paths[0].removesuffix(".jpg")
    text = "\ufeff" + "\r\n".join(["", *paths, " "])
    assert read_list(text.encode(), "x.txt") == paths
    assert read_list(b"./a\\1.jpg\n", "x.txt") == ["a/1.jpg"]


def matlab(**variables: Any) -> bytes:
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, variables)
    return stream.getvalue()


def test_rows_of_text_in_place_of_cells() -> None:
    assert read_list(matlab(file_list=["a/1.jpg", "b/22.jpg"]), "x.mat") == ["a/1.jpg", "b/22.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no image"),
        (b"\n \n", "names no image"),
        (b"\x89PNG\r\n\x1a\n\xff", "neither UTF-8 text nor a MATLAB 5 file"),
        (b"\0\0\0\0", "neither text nor a MATLAB 5 file"),
        (matlab_list(["a/1.jpg"])[:200], "cannot be read"),
        (matlab_list(["a/1.jpg"])[:128] + bytes(range(200)), "cannot be read"),
        (b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + bytes(100), "cannot be read"),
        (matlab(other=1), "has no variable 'file_list', but other"),
        (matlab(file_list=[1, 2]), "is not a cell array of text"),
        (matlab(file_list={"a": 1}), "is not a cell array of text"),
    ],
)
def test_lists_that_are_none(content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_list(content, "x.mat")
    assert caught.value.message.startswith("x.mat: ")
    assert message in caught.value.message


def test_pictures_of_tests_differ() -> None:
    assert len({picture(seed) for seed in range(5)}) == 5
    assert zipfile.is_zipfile(io.BytesIO(zip_of({"a": b""})))
