"""`mlops data fetch` as a user has it: from a workload or an address to images that can be prepared, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testing.support.archives import (  # fmt: skip
    BREEDS,
    TEST,
    TRAIN,
    dog_images,
    dog_lists,
    dog_paths,
    dog_workload,
    matlab_list,
    member,
    picture,
    raw_zip_of,
    tar_of,
    zip_of,
)
from testing.support.web_server import Page, Site, serving
from typer.testing import CliRunner, Result

from vision_mlops.cli.data.image_location import images_for
from vision_mlops.cli.jobs.training_pipeline import PIPELINE, read_pipeline
from vision_mlops.cli.main import app
from vision_mlops.cli.options import RunLocation
from vision_mlops.config import load_workload
from vision_mlops.core import paths
from vision_mlops.core.errors import MlopsError
from vision_mlops.data.fetch_record import FetchRecord, read_record
from vision_mlops.data.manifest import read_manifest

QUICK = ("--attempts", "2", "--pause", "0.001")
PHOTOS = zip_of({"a/1.jpg": picture(1), "b/1.jpg": picture(2)})
IMAGES, LISTS = tar_of(dog_images()), tar_of(dog_lists())
LABELS = {breed.partition("-")[2] for breed in BREEDS}
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


@pytest.fixture
def site(server: Site) -> Site:
    server.pages.clear()
    server.log.clear()
    server.pages["/images.tar"] = Page(IMAGES, etag='"i"', ranges=True)
    server.pages["/lists.tar"] = Page(LISTS, etag='"l"', ranges=True)
    return server


@pytest.fixture
def workload(site: Site, tmp_path: Path) -> str:
    path = tmp_path / "dogs.yml"
    path.write_text(dog_workload(site.address, IMAGES, LISTS))
    return str(path)


@pytest.fixture
def folder(home: Path) -> Path:
    """Where the workload is fetched to."""
    return home / "downloads" / "dogs"


def fetch(*words: str | Path, **options: Any) -> Result:
    result = RUNNER.invoke(app, ["data", "fetch", *map(str, words), *QUICK])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


def refused(*words: str | Path) -> MlopsError:
    """The error of a command that leaves everything below its folder as it was."""
    result = RUNNER.invoke(app, ["data", "fetch", *map(str, words), *QUICK])
    assert isinstance(result.exception, MlopsError), result.output
    assert result.exception.hint
    return result.exception


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def record_of(root: Path) -> FetchRecord:
    record = read_record(root)
    assert record is not None
    return record


def site_with(site: Site, content: bytes, path: str = "/data.zip") -> str:
    site.pages[path] = Page(content, etag=f'"{len(content)}"', ranges=True)
    return site.address + path


def test_from_workload_to_manifest(site: Site, workload: str, folder: Path, home: Path) -> None:
    """The published split arrives in the manifest, and val is drawn from train."""
    result = fetch("--json", workload)
    assert "fetching dogs: 2 files, 81,920 bytes, to" in result.stderr
    assert "licence: The home page names no licence" in result.stderr
    assert f"fetched: {folder}: 36 images of 3 classes (test 12, train 24)" in result.stderr
    assert json.loads(result.stdout)["counts"]["test"] == dict.fromkeys(sorted(LABELS), TEST)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["dogs"]
    images = {f"{split}/{path.partition('-')[2]}" for split in ("train", "test") for path in dog_paths(split)}
    assert files(folder) == {*images, "fetch.json"}
    record = record_of(folder)
    assert record.counts["train"] == dict.fromkeys(LABELS, TRAIN)
    assert [file.size for file in record.files] == [len(IMAGES), len(LISTS)]
    assert record.homepage == "http://vision.stanford.edu/aditya86/ImageNetDogs/"
    prepared = RUNNER.invoke(app, ["data", "prepare", "--workload", workload])
    assert prepared.exit_code == 0, prepared.output
    manifest = read_manifest(home / "data" / "dogs")
    assert manifest.source == f"download:{site.address}/images.tar {site.address}/lists.tar"
    assert set(manifest.classes) == LABELS
    published = {Path(path).name for path in dog_paths("test")}
    assert {Path(image.path).name for image in manifest.of_split("test")} == published
    assert len(manifest.of_split("train")) + len(manifest.of_split("val")) == 3 * TRAIN
    assert len(manifest.of_split("val")) == 3


def test_a_second_time_nobody_is_asked(site: Site, workload: str, folder: Path) -> None:
    fetch(workload)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    site.log.clear()
    result = fetch(workload)
    assert result.stderr == f"unchanged: {folder}: 36 images of 3 classes (test 12, train 24)\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert site.log == []
    assert json.loads(fetch(workload, "--json").stdout)["reused"] is True


def test_the_shipped_workload() -> None:
    download = load_workload("stanford_dogs").data.download
    assert download is not None
    assert download.size == 793_579_520 + 481_280
    assert download.splits is not None
    assert download.splits.named() == {"train": "train_list.mat", "test": "test_list.mat"}
    for folder, label in {"n02085620-Chihuahua": "Chihuahua", "n02086240-Shih-Tzu": "Shih-Tzu",
                          "n02099712-Labrador_retriever": "Labrador_retriever", "n02105056-groenendael": "groenendael",
                          "n02115913-dhole": "dhole", "n02089078-black-and-tan_coonhound": "black-and-tan_coonhound",
                          "n02102177-Welsh_springer_spaniel": "Welsh_springer_spaniel"}.items():  # fmt: skip
        match = re.fullmatch(download.label_pattern, folder)
        assert match is not None
        assert match[1] == label


@pytest.mark.slow
def test_before_it_is_fetched_nothing_runs(workload: str, home: Path, tmp_path: Path) -> None:
    expected = "the images of workload dogs have not been downloaded yet (81,920 bytes)"
    for words in (["data", "prepare"], ["run"], ["run", "--on", "azure"], ["demo"]):
        result = RUNNER.invoke(app, [*words, "--workload", workload])
        assert isinstance(result.exception, MlopsError)
        assert expected in result.exception.message
        assert result.exception.hint == "mlops data fetch FILE.yml"
    assert not home.exists()
    result = RUNNER.invoke(app, ["run", "--workload", "stanford_dogs"])
    assert "not been downloaded yet (794 MB)" in str(result.exception)
    assert "-> mlops data fetch stanford_dogs" in str(result.exception)


def test_the_pipeline_gets_the_folder(workload: str, folder: Path) -> None:
    fetch(workload)
    loaded = load_workload(workload)
    changes = read_pipeline(PIPELINE).changes(loaded, images_for(loaded, None, RunLocation.LOCAL), RunLocation.LOCAL)
    assert changes[-1] == f'jobs.prepare.inputs.images={{type: uri_folder, path: "{folder}"}}'
    prepared = RUNNER.invoke(app, ["data", "prepare", "--workload", workload, "--images", str(folder)])
    assert prepared.exit_code == 0
    assert read_manifest(paths.home() / "data" / "dogs").source.startswith("download:http://127.0.0.1")


def test_the_place_that_the_workload_names(workload: str, tmp_path: Path) -> None:
    place = f"data.path={tmp_path / 'elsewhere'}"
    fetch(workload, "--set", place)
    assert (tmp_path / "elsewhere" / "fetch.json").is_file()
    assert RUNNER.invoke(app, ["data", "prepare", "--workload", workload, "--set", place]).exit_code == 0


@pytest.mark.slow
def test_another_section_needs_another_download(site: Site, workload: str, folder: Path) -> None:
    fetch(workload)
    change = "data.download.label_pattern=(.+)"
    result = RUNNER.invoke(app, ["data", "prepare", "--workload", workload, "--set", change])
    assert "was downloaded with a different `download:` section" in str(result.exception)
    assert "--force" in str(result.exception)
    error = refused(workload, "--set", change)
    assert f"{folder} contains a different download: {site.address}/images.tar" in error.message
    before = files(folder)
    site.pages.clear()
    refused(workload, "--set", change, "--force")
    assert files(folder) == before, "the older one is there until the new one is whole"
    site.pages["/images.tar"], site.pages["/lists.tar"] = Page(IMAGES), Page(LISTS)
    fetch(workload, "--set", change, "--force")
    assert set(record_of(folder).counts["train"]) == set(BREEDS)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["dogs"]
    # What only people read makes no difference.
    assert "unchanged" in fetch(workload, "--set", change, "--set", "data.download.citation=x").stderr


def test_removed_images_are_noticed(workload: str, folder: Path) -> None:
    fetch(workload)
    (folder / "test" / "Chihuahua" / "n02085620_8.jpg").unlink()
    error = refused(workload)
    assert "the number of images in test/Chihuahua does not match the download" in error.message
    fetch(workload, "--force")
    assert "unchanged" in fetch(workload).stderr


@pytest.mark.slow
def test_kept_archives_are_used_again(site: Site, workload: str, folder: Path) -> None:
    result = fetch(workload, "--keep-archives")
    kept = folder.parent / ".dogs.fetch"
    assert f"archives kept in {kept}" in result.stderr
    assert len([path for path in kept.iterdir() if path.suffix == ".tar"]) == 2
    site.log.clear()
    fetch(workload, "--force")
    assert site.log == []
    assert not kept.exists()
    fetch(workload, "--keep-archives", "--force")
    next(kept.glob("*lists.tar")).write_bytes(bytes(len(LISTS)))
    site.log.clear()
    fetch(workload, "--force")
    assert [asked.path for asked in site.log] == ["/lists.tar"], "a damaged copy is not used"


def test_what_is_in_no_list_is_reported(site: Site, tmp_path: Path, folder: Path) -> None:
    lists = tar_of({"train_list.mat": matlab_list(dog_paths("train")), "test.txt": dog_paths("test")[1].encode()})
    site.pages["/lists.tar"] = Page(lists)
    splits = {"train": "train_list.mat", "test": "test.txt"}
    path = tmp_path / "dogs.yml"
    path.write_text(dog_workload(site.address, IMAGES, lists, splits=splits))
    result = fetch(path)
    assert "warning: left out: 11 images in none of the split lists: Images/n02085620-Chihuahua/" in result.stderr
    assert record_of(folder).images == 25
    assert record_of(folder).left_out
    assert "warning" not in fetch(path).stderr


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            {"train_list.mat": matlab_list(["n02085620-Chihuahua/n9.jpg"]), "test_list.mat": b"x\n"},
            "2 images of the split",
        ),
        (
            {"train_list.mat": matlab_list(dog_paths("train"))},
            "the archives do not contain the split list 'test_list.mat'",
        ),
        (
            {"train_list.mat": b"\xff\xfe", "test_list.mat": b"x"},
            "train_list.mat: neither UTF-8 text nor a MATLAB 5 file",
        ),
    ],
)
def test_lists_that_do_not_fit(site: Site, tmp_path: Path, folder: Path, lists: dict[str, bytes], message: str) -> None:
    content = tar_of(lists)
    site.pages["/lists.tar"] = Page(content)
    path = tmp_path / "dogs.yml"
    path.write_text(dog_workload(site.address, IMAGES, content))
    assert message in refused(path).message
    assert not folder.exists()
    site.log.clear()
    refused(path)
    assert site.log == [], "both archives were verified, and are kept for a mended workload"


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ""])
def test_other_archives(site: Site, home: Path, suffix: str) -> None:
    content = {f"flowers/{label}/{n}.jpg": picture(n) for label in ("rose", "tulip") for n in range(2)}
    kinds: dict[str, Any] = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}
    data = tar_of(content, kinds[suffix]) if suffix in kinds else zip_of(content)
    fetch(site_with(site, data, f"/a/blumen{suffix}?sig=secret"))
    folder = home / "downloads" / "blumen"
    assert files(folder) == {"fetch.json", "rose/0.jpg", "rose/1.jpg", "tulip/0.jpg", "tulip/1.jpg"}
    assert "secret" not in (folder / "fetch.json").read_text()


def test_a_local_archive(tmp_path: Path, home: Path) -> None:
    archive = tmp_path / "my photos.zip"
    archive.write_bytes(PHOTOS)
    fetch(archive, "--out", tmp_path / "out")
    assert files(tmp_path / "out") == {"a/1.jpg", "b/1.jpg", "fetch.json"}
    assert archive.is_file()
    assert "unchanged" in fetch(archive, "--out", tmp_path / "out").stderr
    archive.write_bytes(zip_of({"a/1.jpg": picture(3), "b/1.jpg": picture(4)}))
    assert "contains a different download" in refused(archive, "--out", tmp_path / "out").message
    assert "expected sha256" in refused(archive, "--out", tmp_path / "new", "--sha256", "0" * 64).message
    assert archive.is_file()


def test_several_archives(site: Site, tmp_path: Path) -> None:
    first = site_with(site, zip_of({"train/a/1.jpg": picture(1), "train/b/1.jpg": picture(2)}), "/1.zip")
    second = site_with(site, zip_of({"test/a/1.jpg": picture(3)}), "/2.zip")
    fetch(first, second, "--out", tmp_path / "out")
    assert files(tmp_path / "out") == {"train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "fetch.json"}
    again = site_with(site, zip_of({"TRAIN/a/1.jpg": picture(1)}), "/3.zip")
    assert "occurs twice, perhaps in another case" in refused(first, again, "--out", tmp_path / "no").message


EVIL = {
    "absolute": (zip_of({"a/1.jpg": b"x", "/etc/x.jpg": b"x"}), "is absolute"),
    "traversal": (tar_of({"a/1.jpg": b"x", "../../x.jpg": b"x"}), "leaves its folder"),
    "link": (tar_of({"a/1.jpg": b"x"}, "gz", [member("a/2.jpg", tarfile.SYMTYPE, "/etc/passwd")]), "is a link to"),
    "truncated": (tar_of(dog_images(), "gz")[:-100], "damaged or cut off"),
    "damaged content": (PHOTOS[:200] + bytes(8) + PHOTOS[208:], "damaged or cut off"),
    "collision": (zip_of({"a/1.jpg": b"x", "A/1.jpg": b"y"}), "occurs twice"),
    "web page": (b"<!DOCTYPE html><html>log in</html>", "is a web page"),
    "junk": (bytes(range(256)) * 9, "neither an archive nor UTF-8 text"),
    "text": (b"hello\n", "line 1: 'hello' is not an address"),
    "empty": (b"", "has no addresses"),
}


@pytest.mark.parametrize("name", EVIL)
def test_harmful_and_damaged_archives_leave_nothing(site: Site, tmp_path: Path, name: str) -> None:
    content, message = EVIL[name]
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(site_with(site, content), "--out", tmp_path / "out").message
    assert sorted(tmp_path.rglob("*")) == before
    site_with(site, PHOTOS)
    fetch(f"{site.address}/data.zip", "--out", tmp_path / "out")


@pytest.mark.slow
def test_a_bomb_and_an_archive_that_is_just_large(site: Site, tmp_path: Path) -> None:
    url = site_with(site, zip_of({"a/1.jpg": bytes(300_000_000), "b/1.jpg": b"x"}))
    error = refused(url, "--out", tmp_path / "out")
    assert "its content is larger than the limit" in error.message
    assert not (tmp_path / "out").exists()
    site.log.clear()
    url = site_with(site, zip_of({"a/1.jpg": bytes(3_000_000), "b/1.jpg": b"x"}), "/less.zip")
    assert "larger than the limit" in refused(url, "--out", tmp_path / "out", "--max-size", "3000000").message
    fetch(url, "--out", tmp_path / "out", "--max-size", "3000001")
    assert [asked.path for asked in site.log] == ["/less.zip"], "the archive itself is kept"


def test_nothing_of_an_archive_is_left_out_without_a_word(tmp_path: Path) -> None:
    content = {f"set/{label}/{n}{suffix}": picture(10 * place + n)
               for place, (label, suffix) in enumerate((("cat", ".jpg"), ("dog", ".jfif"), ("bird", ""), ("Cow", ".heic")))
               for n in range(3)}  # fmt: skip
    content |= {"set/README.md": b"about", "set/labels.csv": b"a,b",
                "set/cat/notes.txt": b"text", "set/.old/x.jpg": picture(98), "set/cat/._0.jpg": b"mac",
                "set/.DS_Store": b"x"}  # fmt: skip
    for number, archive in enumerate((tar_of(content, "gz"), zip_of(content))):
        (tmp_path / "data.bin").write_bytes(archive)
        done = fetch(tmp_path / "data.bin", "--out", tmp_path / str(number))
        found = files(tmp_path / str(number))
        assert found == {"fetch.json", *(f"{label}/{n}{suffix}" for label, suffix in
                         (("cat", ".jpg"), ("dog", ".jfif"), ("bird", ""), ("Cow", ".heic")) for n in range(3))}  # fmt: skip
        assert "left out: 2 files that are not images: set/cat/notes.txt, set/labels.csv" in done.stderr
        assert "left out: set/.old: is a hidden folder with 1 image in it" in done.stderr
        assert record_of(tmp_path / str(number)).images == 12
        done = fetch(tmp_path / "data.bin", "--inside", "set", "--out", tmp_path / f"{number} inside")
        assert "left out: 2 files that are not images: set/cat/notes.txt, set/labels.csv" in done.stderr


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize("top", ["My Photos/", "", "set/train/"])
def test_class_folders_without_images_are_named(tmp_path: Path, top: str, make: Callable[..., bytes]) -> None:
    content = {f"{top}{label}/{n}.jpg": picture(10 * place + n) for place, label in enumerate("ab") for n in range(2)}
    if top == "set/train/":
        content |= {f"set/test/{label}/1.jpg": picture(40 + place) for place, label in enumerate("ab")}
    if make is zip_of:
        archive = zip_of(content | {f"{top}empty/": b"", f"{top}notes/x.csv": b"1"}, {f"{top}empty/": 0o40755})
    else:
        archive = tar_of(content | {f"{top}notes/x.csv": b"1"}, more=[member(f"{top}empty", tarfile.DIRTYPE)])
    (tmp_path / "mac.bin").write_bytes(archive)
    done = fetch(tmp_path / "mac.bin", "--out", tmp_path / "out")
    assert "left out: 2 class folders without images: empty, notes" in done.stderr


@pytest.mark.parametrize(
    ("raw", "unicode_path", "label", "doubtful"),
    [
        ("Käse/1.jpg".encode(), None, "Käse", False),
        ("Käse/1.jpg".encode("cp850"), "Käse/1.jpg", "Käse", False),
        ("猫/1.jpg".encode("shift-jis"), "猫/1.jpg", "猫", False),
        ("Käse/1.jpg".encode("cp437"), None, "Käse", True),
        ("狗/1.jpg".encode("gbk"), None, "╣╖", True),
        (b"cheese/1.jpg", None, "cheese", False),
    ],
)
def test_names_of_a_zip_in_other_encodings(
    tmp_path: Path, raw: bytes, unicode_path: str | None, label: str, doubtful: bool
) -> None:
    images = {raw: picture(1), b"dog/1.jpg": picture(2)}
    archive = raw_zip_of(images, {raw: unicode_path} if unicode_path else None)
    (tmp_path / "data.zip").write_bytes(archive)
    done = fetch(tmp_path / "data.zip", "--out", tmp_path / "out")
    assert files(tmp_path / "out") == {"fetch.json", "dog/1.jpg", f"{label}/1.jpg"}
    assert ("data.zip does not state the encoding of its names: cp437 is assumed" in done.stderr) == doubtful


def test_a_class_called_train_in_an_archive(tmp_path: Path) -> None:
    names = [f"{label}/{n}.jpg" for label in ("train", "bus", "car") for n in range(2)]
    (tmp_path / "data.zip").write_bytes(zip_of({name: picture(n) for n, name in enumerate(names)}))
    fetch(tmp_path / "data.zip", "--out", tmp_path / "out")
    assert files(tmp_path / "out") == {"fetch.json", *names}


def csv_of(*rows: tuple[str, ...]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


@pytest.fixture
def photos(site: Site) -> Callable[[str], str]:
    """Addresses of images on the server; some formats, and names that say nothing."""
    for number, format in enumerate(["JPEG", "PNG", "WEBP", "BMP"]):
        site.pages[f"/photos/robin/{number}"] = Page(picture(number, format))
        site.pages[f"/photos/wren/{number}.jpg"] = Page(picture(number + 10, format))
    return lambda path: f"{site.address}/photos/{path}"


def test_a_list_of_addresses(site: Site, tmp_path: Path, photos: Callable[[str], str]) -> None:
    """The class is the last folder of the address, the suffix that of the content, the name ours."""
    lines = [photos(f"robin/{n}") for n in range(4)] + [photos(f"wren/{n}.jpg") for n in range(4)]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "", lines[0]]))
    result = fetch(tmp_path / "list.txt", "--out", tmp_path / "out", "--jobs", "3")
    assert "8 images of 2 classes" in result.stderr
    found = files(tmp_path / "out") - {"fetch.json"}
    assert all(re.fullmatch(r"(robin|wren)/[0-9a-f]{20}\.(jpg|png|webp|bmp)", name) for name in found)
    assert sorted(Path(name).suffix for name in found) == sorted([".jpg", ".png", ".webp", ".bmp"] * 2)
    site.log.clear()
    assert "unchanged" in fetch(tmp_path / "list.txt", "--out", tmp_path / "out").stderr
    assert site.log == []


def test_a_table_with_classes_and_splits(site: Site, tmp_path: Path, photos: Callable[[str], str]) -> None:
    rows = [(label, photos(f"robin/{n}"), split) for n, (label, split) in
            enumerate([("a b", "Training"), ("ü", "train"), ("a b", "test"), ("ü", "val")])]  # fmt: skip
    url = site_with(site, csv_of(("Label", "URL", "split"), *rows), "/table?x=1")
    fetch(url, "--out", tmp_path / "out")
    assert record_of(tmp_path / "out").counts == {
        "train": {"a b": 1, "ü": 1}, "test": {"a b": 1}, "val": {"ü": 1}
    }  # fmt: skip
    plain = csv_of(*((url, label) for label, url, _ in rows))
    (tmp_path / "plain.csv").write_bytes(b"\xef\xbb\xbf" + plain)
    fetch(tmp_path / "plain.csv", "--out", tmp_path / "plain")
    assert record_of(tmp_path / "plain").counts == {"all": {"a b": 2, "ü": 2}}


def test_labels_of_a_list_that_look_the_same(site: Site, tmp_path: Path, photos: Callable[[str], str]) -> None:
    rows = csv_of(
        ("url", "label"), (photos("robin/0"), "Robin"), (photos("robin/1"), "robin"), (photos("robin/2"), "wren")
    )
    (tmp_path / "list.csv").write_bytes(rows)
    done = fetch(tmp_path / "list.csv", "--out", tmp_path / "out")
    assert "classes 'Robin' and 'robin' differ only in upper and lower case" in done.stderr


def test_images_that_are_missing(site: Site, tmp_path: Path, photos: Callable[[str], str]) -> None:
    site.pages["/photos/robin/1"] = Page(b"<html>sorry</html>")
    lines = [photos(f"robin/{n}") for n in (0, 1, 2, 9)] + [photos(f"wren/{n}.jpg") for n in range(2)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    error = refused(tmp_path / "list.txt", "--out", tmp_path / "out")
    assert error.message.startswith("2 images cannot be downloaded: ")
    assert "robin/1: the response is not an image" in error.message
    assert "robin/9: the server responded with 404" in error.message
    assert "--skip-missing" in error.hint
    assert not (tmp_path / "out").exists()
    site.log.clear()
    result = fetch(tmp_path / "list.txt", "--out", tmp_path / "out", "--skip-missing")
    assert sorted(asked.path for asked in site.log) == ["/photos/robin/1", "/photos/robin/9"]
    assert result.stderr.count("warning: left out: ") == 2
    assert len(record_of(tmp_path / "out").left_out) == 2
    assert len(files(tmp_path / "out")) == 5
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"http://localhost/1.jpg\n", "line 1: '' is not a valid class name"),
        (b"http://localhost/%2e%2e/1.jpg\n", "line 1: '..' is not a valid class name"),
        (b"url,label\nhttp://localhost/1.jpg,../evil\n", "line 2: '../evil' is not a valid class name"),
        (b"url,label\nhttp://localhost/1.jpg,.hidden\n", "'.hidden' is not a valid class name"),
        (b"url,label,split\nhttp://localhost/1.jpg,a,fold1\n", "line 2: 'fold1' is not a split"),
        (
            b"url,label,split\nhttp://h/1.jpg,a,train\nhttp://h/2.jpg,a,\n",
            "some images have a split and some have none",
        ),
        (b"url,label\nhttp://h/1.jpg,a\nhttp://h/1.jpg,b\n", "line 3: http://h/1.jpg is listed twice"),
        (b"http://h/a/1.jpg\nfile:///etc/passwd\n", "line 2: 'file:///etc/passwd' is not an address"),
        (b"http://[::1/a/1.jpg\n", "line 1: 'http://[::1/a/1.jpg' is not an address"),
        (b"label\nx\n", "line 1: 'label' is not an address"),
    ],
)
def test_lists_that_are_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    assert message in refused(tmp_path / "list.csv", "--out", tmp_path / "out").message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stanford_dog"], "'stanford_dog' is not a workload, an http or https address, or a file"),
        (["textile_degraded"], "the images of textile_degraded are generated when they are prepared"),
        (["textile", "--inside", "x"], "--inside applies only to an address"),
        (["stanford_dogs", "--per-class", "5"], "--per-class applies only to a dataset that comes with the package"),
        (["stanford_dogs", "textile"], "2 workloads are given"),
        (["stanford_dogs", "http://127.0.0.1/x.zip"], "a workload and addresses are given"),
        (["stanford_dogs", "--max-size", "5"], "--max-size applies only to an address"),
        (["stanford_dogs", "--inside", "x"], "--inside applies only to an address"),
        (["http://127.0.0.1/x.zip", "--set", "a=b"], "--set changes a workload"),
        (
            ["http://127.0.0.1/x.zip", "http://127.0.0.1/y.zip", "--size", "5"],
            "--size applies to one file, but 2 are given",
        ),
        (["http://127.0.0.1/x.zip", "--sha256", "abc"], "--sha256: 'abc' is not valid"),
        (["http://127.0.0.1/x.zip", "--inside", "../x"], "--inside: must be a relative path"),
        (["http://[::1/x.zip"], "the address: Invalid IPv6 URL"),
        (["http:///x.zip"], "the address: must be an http, https or file address"),
        (["file:///no/such/file.zip"], "/no/such/file.zip is not a file"),
        (["no.yml"], "workload file no.yml does not exist"),
    ],
)
def test_wrong_words(home: Path, words: list[str], message: str) -> None:
    assert message in refused(*words).message
    assert not home.exists()


def test_foreign_folders_are_safe(site: Site, tmp_path: Path) -> None:
    url = site_with(site, PHOTOS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    for more in ([], ["--force"]):
        assert "is not empty and was not created by" in refused(url, "--out", tmp_path / "out", *more).message
    assert "is a file" in refused(url, "--out", tmp_path / "out" / "thesis.txt").message
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"
    assert refused(url, "--out", "/proc").hint == "choose a folder in it: --out /proc/proc"
    assert site.log == []
    (tmp_path / "empty").mkdir()
    fetch(url, "--out", tmp_path / "empty")


@pytest.mark.slow
def test_one_process_at_a_time(site: Site, tmp_path: Path) -> None:
    url = site_with(site, PHOTOS)
    site.pages["/data.zip"].pause = 3
    process = start("data", "fetch", url, "--out", tmp_path / "out")
    try:
        wait_for(lambda: (tmp_path / ".out.fetch" / "lock").exists() and bool(site.log), process)
        assert "another process is fetching" in refused(url, "--out", tmp_path / "out").message
        assert process.wait(60) == 0
    finally:
        end(process)
    assert "unchanged" in fetch(url, "--out", tmp_path / "out").stderr


def start(*words: str | Path, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}, **more,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_gone_on(site: Site, workload: str, folder: Path, number: signal.Signals) -> None:
    """The same command brings the rest, and nothing twice."""
    page = site.pages["/images.tar"]
    page.pause = 0.2
    process = start("data", "fetch", workload)
    try:
        part = folder.parent / ".dogs.fetch"
        wait_for(lambda: any(path.stat().st_size for path in part.glob("*.part")), process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        end(process)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert re.search(r"interrupted; [\d.,]+ (bytes|MB) are kept, and the same command continues there", errors)
        assert "Traceback" not in errors
    kept = next(part.glob("*.part")).stat().st_size
    assert 0 < kept < len(IMAGES)
    assert not folder.exists()
    page.pause = 0.0
    site.log.clear()
    fetch(workload)
    assert site.log[0].range == f"bytes={kept}-"
    assert site.sent("/images.tar") == len(IMAGES) - kept
    assert record_of(folder).images == 36
    assert sorted(path.name for path in folder.parent.iterdir()) == ["dogs"]


@pytest.mark.slow
def test_interrupted_list(site: Site, tmp_path: Path, photos: Callable[[str], str]) -> None:
    """Ctrl-C does not wait for a server that is silent; images that came are not asked for again."""
    for path in ("/photos/robin/2", "/photos/robin/3"):
        site.pages[path].pause = 1000.0
    (tmp_path / "list.txt").write_text("\n".join([photos(f"robin/{n}") for n in range(4)] + [photos("wren/1.jpg")]))
    process = start("data", "fetch", tmp_path / "list.txt", "--out", tmp_path / "out", "--jobs", "3")
    images = tmp_path / ".out.fetch" / "images"
    try:
        wait_for(lambda: len(site.log) == 5 and len([*images.rglob("*.jpg"), *images.rglob("*.png")]) == 3, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=50)  # silence ends a try after 60 s
    finally:
        end(process)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    for path in ("/photos/robin/2", "/photos/robin/3"):
        site.pages[path].pause = 0.0
    site.log.clear()
    fetch(tmp_path / "list.txt", "--out", tmp_path / "out")
    assert sorted(asked.path for asked in site.log) == ["/photos/robin/2", "/photos/robin/3"]


def test_killed_while_unpacking(workload: str, folder: Path, site: Site) -> None:
    """What was half unpacked is removed, and the archives are not downloaded again."""
    fetch(workload, "--keep-archives")
    work = folder.parent / ".dogs.fetch"
    (work / "tree" / "train" / "Chihuahua").mkdir(parents=True)
    (work / "tree" / "train" / "Chihuahua" / "half.jpg").write_bytes(b"half")
    folder.rename(work / "old")  # killed between the two renames: the older folder comes back
    site.log.clear()
    assert "unchanged" not in fetch(workload, "--force").stderr
    assert site.log == []
    assert "train/Chihuahua/half.jpg" not in files(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["dogs"]


def limited() -> None:
    """A process that cannot write files of more than 40 kB: writes fail as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


@pytest.mark.slow
def test_no_space_for_the_download(site: Site, workload: str, folder: Path) -> None:
    process = start("data", "fetch", workload, *QUICK, preexec_fn=limited)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "File too large; 40,000 of 61,440 bytes are there" in errors
    assert "-> free space, and run the same command to continue" in errors
    site.log.clear()
    fetch(workload)
    assert site.log[0].range == "bytes=40000-"
    assert site.sent("/images.tar") == len(IMAGES) - 40_000
    assert record_of(folder).images == 36


@pytest.mark.slow
def test_no_space_for_the_images(site: Site, tmp_path: Path) -> None:
    content = zip_of({"a/1.jpg": bytes(100_000), "b/1.jpg": b"x"})
    assert len(content) < 40_000
    process = start("data", "fetch", site_with(site, content), "--out", tmp_path / "out", preexec_fn=limited)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"error: {tmp_path / 'out'}: File too large" in errors
    assert "-> free space, and run the same command to continue" in errors
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / ".out.fetch").iterdir() if path.name != "lock"] != ["tree"]
    site.log.clear()
    fetch(f"{site.address}/data.zip", "--out", tmp_path / "out")
    assert site.log == []


@pytest.mark.slow
def test_nothing_but_two_lines_without_a_terminal(workload: str) -> None:
    process = start("data", "fetch", workload)
    output, errors = process.communicate(timeout=30)
    assert output == ""
    assert [line.partition(":")[0] for line in errors.splitlines()] == ["fetching dogs", "licence", "fetched"]


@pytest.mark.slow
def test_a_bar_on_a_terminal(site: Site, workload: str) -> None:
    site.pages["/images.tar"].pause = 0.1
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_mlops", "data", "fetch", workload],
        stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait(60) == 0
    assert b"images.tar" in seen
    assert b"36 images of 3 classes" in seen
    assert f"next: mlops run --workload {workload}".encode() in seen


def test_threads_are_gone(tmp_path: Path, photos: Callable[[str], str]) -> None:
    (tmp_path / "list.txt").write_text("\n".join(photos(f"robin/{n}") for n in range(4)))
    before = threading.active_count()
    fetch(tmp_path / "list.txt", "--out", tmp_path / "out")
    assert threading.active_count() <= before + 1  # the server's own of a last answer


def test_images_of_the_package_are_copied(tmp_path: Path) -> None:
    out = tmp_path / "photos" / "fabric"
    words = ("textile", "--per-class", "3", "--out", out)
    assert "copied: " in fetch(*words).stderr
    assert len(list(out.glob("*/*.jpg"))) == 9
    assert json.loads(fetch(*words, "--json").stdout) == {
        "folder": str(out), "reused": True, "counts": {"global": 3, "local": 3, "nominal": 3}
    }  # fmt: skip
    next(out.glob("local/*.jpg")).unlink()
    assert "contains files other than these images" in refused(*words).message
    assert [path.name for path in out.parent.iterdir()] == ["fabric"]
