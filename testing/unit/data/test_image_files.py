"""Which files are images, and that nothing else is left out without a word: in prepare, check, new, predict and batches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from PIL import Image
from testing.support.planted_faults import photo
from testing.support.user_rights import as_nobody, open_folder
from typer.testing import CliRunner

from vision_mlops.batch.image_sources import Folder
from vision_mlops.cli.main import app
from vision_mlops.config.workload import Data, Workload
from vision_mlops.core.errors import DataError, ImageError
from vision_mlops.data.check.file_listing import list_images as list_for_check
from vision_mlops.data.image_files import LeftOut, image_entries, images_below, summary
from vision_mlops.data.overview import look_at
from vision_mlops.data.prepare import PrepareResult, prepare
from vision_mlops.data.sources import list_images
from vision_mlops.images.formats import find_format

RUNNER = CliRunner()
WORKLOAD = Workload(name="shapes", data=Data(min_images_per_class=3))


def draw(folder: Path, count: int, seed: int, suffix: str = ".jpg", kind: str = "JPEG") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        photo(seed + number, size=(24, 24)).save(folder / f"{number}{suffix}", kind)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for place, label in enumerate(("cat", "dog")):
        draw(tmp_path / "photos" / label, 4, 100 * place)
    return tmp_path / "photos"


def enough_for_new(photos: Path) -> None:
    for place, label in enumerate(("cat", "dog")):
        draw(photos / label, 5, 100 * place)


def run(folder: Path, out: Path, *, strict: bool = False) -> PrepareResult:
    return prepare(WORKLOAD, out, images=folder, strict=strict)


def refused(folder: Path, out: Path) -> str:
    with pytest.raises(DataError) as caught:
        run(folder, out, strict=True)
    assert not out.exists()
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in images_below(folder)[0]]


def left_out(folder: Path) -> dict[str, str]:
    return {found.name: found.reason for found in image_entries(folder) if isinstance(found, LeftOut)}


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".jfif", "JPEG"), (".jpe", "JPEG"), (".JPG", "JPEG"), ("", "JPEG"), ("", "PNG"), (".TIF", "TIFF"), (".dat", "WEBP"),
     (".2024", "GIF"), (".jpg.bak", "BMP")],
)  # fmt: skip
def test_the_content_makes_an_image_and_not_the_suffix(photos: Path, tmp_path: Path, suffix: str, kind: str) -> None:
    draw(photos / "bird", 4, 900, suffix, kind)
    result = run(photos, tmp_path / "out", strict=True)
    assert result.manifest.classes == ["bird", "cat", "dog"]
    assert result.warnings == []
    assert look_at(photos).counts == {"bird": 4, "cat": 4, "dog": 4}
    assert sum(entry.label == "bird" for entry in list_for_check(photos).entries) == 4
    assert sum(item.name.startswith("bird/") for item in Folder(photos).listing()) == 4


@pytest.mark.parametrize("name", ["0.heic", "0.HEIC", "0.jxl", "0.cr2", "0.jpg"])
def test_a_class_of_what_cannot_be_decoded_is_named(photos: Path, tmp_path: Path, name: str) -> None:
    (photos / "bird").mkdir()
    (photos / "bird" / name).write_bytes(b"\0\0\0\x18ftypxxxx" + bytes(100))
    text = refused(photos, tmp_path / "out")
    assert f"bird/{name}: " in text
    assert "class 'bird' has 0 different usable images" in text
    said = run(photos, tmp_path / "out").warnings
    assert [line.startswith(f"left out: bird/{name}: ") for line in said] == [True, False]
    assert next(item.name for item in Folder(photos).listing()) == f"bird/{name}", "a row of the errors"


def test_other_files_are_counted_and_named_by_every_command(photos: Path, tmp_path: Path) -> None:
    for name in ("birds.zip", "cat/labels.csv", "cat/notes.txt", "dog/zero", "dog/x.json", "dog/y.json"):
        (photos / name).write_bytes(b"" if name.endswith("zero") else b"some text")
    line = "6 files that are not images: birds.zip, cat/labels.csv, cat/notes.txt, dog/x.json, dog/y.json, and 1 more"
    assert refused(photos, tmp_path / "out").startswith(f"6 problems: {line}")
    result = run(photos, tmp_path / "out")
    assert result.warnings == [f"left out: {line}"]
    assert len(result.manifest.excluded) == 6
    assert look_at(photos).left_out == [line]
    (finding,) = list_for_check(photos).findings
    assert (finding.kind, finding.message, len(finding.files)) == ("ignored", line, 6)
    folder = Folder(photos)
    assert len(list(folder.listing())) == 8
    assert (folder.skipped.count, folder.skipped.first[0]) == (6, "birds.zip: is not an image")


def test_what_programs_leave_and_texts_about_the_folder_are_no_word_worth(photos: Path, tmp_path: Path) -> None:
    for name in ("README", "readme.md", "cat/LICENSE.txt", "README.dataset.txt", ".DS_Store", "dog/Thumbs.db", "desktop.ini",
                 ".gitattributes", "cat/._0.jpg", "cat/.0.jpg.swp"):  # fmt: skip
        (photos / name).write_bytes(b"x")
    for folder in ("__MACOSX", ".ipynb_checkpoints", "cat/@eaDir", ".git/objects", "cat/.Trash-1000", "dog/#recycle"):
        draw(photos / folder, 1, 900)
    assert left_out(photos) == {}
    assert len(names(photos)) == 8
    assert run(photos, tmp_path / "out", strict=True).warnings == []


def test_hidden_folders_with_images_and_files_that_are_elsewhere_are_named(photos: Path, tmp_path: Path) -> None:
    draw(photos / ".bird", 4, 900)
    draw(photos / "cat" / ".old" / "deep", 1, 950)
    (photos / ".empty").mkdir()
    (photos / "dog" / ".9.jpg.icloud").write_bytes(b"bplist")
    assert left_out(photos) == {".bird": "hidden", "cat/.old": "hidden", "dog/.9.jpg.icloud": "unreadable"}
    text = refused(photos, tmp_path / "out")
    assert ".bird: is a hidden folder with 4 images in it" in text
    assert "cat/.old: is a hidden folder with 1 image in it" in text
    assert "dog/.9.jpg.icloud: is stored in iCloud, not on this machine" in text
    assert {finding.kind for finding in list_for_check(photos).findings} == {"not-used", "unreadable"}


def test_folders_and_files_without_rights_are_named() -> None:
    with open_folder() as folder:
        for place, label in enumerate(("cat", "dog", "bird")):
            draw(folder / "photos" / label, 4, 100 * place)
        for path in (folder / "photos").rglob("*"):
            path.chmod(0o777)
        (folder / "photos").chmod(0o777)
        (folder / "photos" / "dog" / "0.jpg").rename(folder / "photos" / "dog" / "plain")
        with as_nobody_owning(folder):
            photos = folder / "photos"
            (photos / "bird").chmod(0o000)
            (photos / "dog" / "plain").chmod(0o000)
            try:
                text = refused(photos, folder / "out")
                said = run(photos, folder / "out").warnings
                seen = look_at(photos)
                kinds = [(finding.kind, finding.message) for finding in list_for_check(photos).findings]
                failed = [item for item in Folder(photos).fetch(Folder(photos).listing(), folder) if item.failed]
                (photos).chmod(0o000)
                with pytest.raises(DataError, match=r"photos cannot be read \(Permission denied\)"):
                    list_images(photos)
            finally:
                photos.chmod(0o700)
                (photos / "bird").chmod(0o700)
    assert "bird: cannot be read (Permission denied)" in text
    assert "dog/plain: Permission denied" in text
    assert "class 'bird' has 0 different usable images" in text
    assert len(said) == 3
    assert (seen.left_out, list(seen.small)) == (["bird: cannot be read (Permission denied)"], ["bird"])
    assert ("unreadable", "bird: cannot be read (Permission denied)") in kinds
    assert [item.failed and item.failed.message for item in failed] == ["bird: cannot be read (Permission denied)"]


def as_nobody_owning(folder: Path) -> AbstractContextManager[None]:
    """As :func:`as_nobody`, with the folder given to that user before."""
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "nobody")
    return as_nobody()


def test_pipes_and_links_do_not_hang_and_are_named(photos: Path, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "more", 4, 900)
    (photos / "bird").symlink_to(tmp_path / "elsewhere")
    (photos / "cat" / "up").symlink_to(photos)
    (photos / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (photos / "gone").symlink_to(tmp_path / "unmounted")
    os.mkfifo(photos / "dog" / "pipe.jpg")
    text = refused(photos, tmp_path / "out")
    for message in ("cat/up: is a link to a folder that contains it", "cat/gone.jpg: is a broken link",
                    "gone: is a broken link", "dog/pipe.jpg: is neither a file nor a folder",
                    "class 'gone' has 0 different usable images"):  # fmt: skip
        assert message in text, message
    assert run(photos, tmp_path / "out").manifest.classes == ["bird", "cat", "dog"]
    found = Folder(photos)
    failures = [item.failed.message for item in found.fetch(found.listing(), tmp_path) if item.failed]
    assert failures == ["cat/gone.jpg: is a broken link", "dog/pipe.jpg: is neither a file nor a folder",
                        "gone: is a broken link"]  # fmt: skip
    assert found.skipped.first == ["cat/up: is a link to a folder that contains it"]


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "movie.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"it has no images, but 1 file that is not an image: cat/movie\.mp4"):
        list_images(tmp_path / "photos")


def test_empty_class_folders_are_named(photos: Path, tmp_path: Path) -> None:
    enough_for_new(photos)
    enough_for_new(photos)
    (photos / "bird").mkdir()
    assert "class 'bird' has 0 different usable images, fewer than 3" in refused(photos, tmp_path / "out")
    assert list(look_at(photos).small) == ["bird"]
    done = RUNNER.invoke(app, ["new", "pets", "--images", str(photos), "--json"])
    assert "class 'bird' has 0 images, fewer than 5: it will be left out" in done.stderr


def test_names_go_on_one_line() -> None:
    odd = os.fsdecode(b"a/caf\xe9\n\x1b[2J.txt")
    assert summary([LeftOut(odd, "ignored", "is not an image"), LeftOut("x", "loop", "is odd")]) == [
        "x: is odd", r"1 file that is not an image: a/caf\xe9\n\x1b[2J.txt",
    ]  # fmt: skip


def test_classes_that_look_the_same_are_told(photos: Path, tmp_path: Path) -> None:
    enough_for_new(photos)
    draw(photos / "Cat", 4, 900)
    line = "classes 'Cat' and 'cat' differ only in upper and lower case"
    assert run(photos, tmp_path / "out", strict=True).warnings == [line]
    assert [(finding.kind, finding.message) for finding in list_for_check(photos).findings] == [
        ("lookalike-class", line)
    ]
    assert [finding.message for finding in list_for_check(tmp_path / "out").findings] == [line]
    assert line in RUNNER.invoke(app, ["new", "pets", "--images", str(photos), "--json"]).stderr


@pytest.mark.parametrize(
    ("flat", "nested", "expected"),
    [
        (["train", "bus", "car"], [], ["bus", "car", "train"]),
        (["valid", "bus"], [], ["bus", "valid"]),
        (["Test", "bus"], [], ["Test", "bus"]),
        (["validation", "test", "bus"], [], ["bus", "test", "validation"]),
        (["bus", "car"], ["train"], "bus, car are next to train, which may be a split or classes"),
        (["train", "test", "bus"], [], "bus is next to test, train, which may be a split or classes"),
        (["bus"], ["valid", "test"], "bus is next to test, valid, which may be a split or classes"),
        (["train", "test"], [], "its images are not in class folders"),
        ([], ["val", "test"], "test, val without train"),
        ([], ["Training", "VALID"], ["a", "b"]),
    ],
)
def test_folders_called_like_a_split(
    tmp_path: Path, flat: list[str], nested: list[str], expected: list[str] | str
) -> None:
    for label in [*flat, *(f"{split}/{label}" for split in nested for label in "ab")]:
        (tmp_path / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / label / "0.png")
    if isinstance(expected, list):
        assert list_images(tmp_path).classes == expected
        return
    with pytest.raises(DataError) as caught:
        list_images(tmp_path)
    assert expected in caught.value.message
    first = sorted([*flat, *nested])[-1 if "train" in expected and "without" not in expected else 0]
    assert "rename" in caught.value.hint
    assert "_class" in caught.value.hint, first


def test_check_command_says_all_of_it(photos: Path, tmp_path: Path) -> None:
    draw(photos / "Cat", 4, 900)
    (photos / "cat" / "notes.txt").write_text("x")
    (photos / "cat" / "up").symlink_to(photos)
    done = RUNNER.invoke(
        app, ["data", "check", str(photos), "--no-labels", "--json", "--out", str(tmp_path / "report")]
    )
    kinds = json.loads(done.stdout)["kinds"]
    assert {"lookalike-class", "not-used", "ignored"} <= kinds.keys()


def too_small(*words: str) -> str:
    done = RUNNER.invoke(app, ["data", "check", *words, "--no-labels", "--json", "--fail-on", "never"])
    found = [item["message"] for item in json.loads(done.stdout)["findings"] if item["kind"] == "too-small"]
    return found[0] if found else ""


@pytest.mark.slow
def test_the_network_is_that_of_the_workload_of_the_folder(
    photos: Path, tmp_path: Path, plain_bundle: Callable[..., Path]
) -> None:
    assert "a network of 224 is assumed; --workload names yours" in too_small("photos")
    enough_for_new(photos)
    RUNNER.invoke(app, ["new", "pets", "--images", "photos"])
    assert "the network takes 96" in too_small("photos")
    assert "the network takes 250" in too_small("photos", "--workload", "textile")
    assert too_small("photos", "--bundle", str(plain_bundle())) == "", "one of 32 pixels"
    RUNNER.invoke(
        app, ["data", "prepare", "--workload", "pets", "--set", "data.min_images_per_class=3", "--out", "ready"]
    )
    assert "the network takes 96" in too_small("ready")
    Path("workloads/more.yml").write_text(Path("workloads/pets.yml").read_text().replace("name: pets", "name: more"))
    assert "a network of 224 is assumed" in too_small("photos"), "two workloads have these images"


@pytest.mark.parametrize("suffix", ["tga", "ico", "SVG", "ppm"])
def test_images_of_formats_that_are_never_read_are_to_be_converted(suffix: str) -> None:
    with pytest.raises(
        ImageError, match=f"{suffix.upper()} images cannot be read: convert it to JPEG or PNG"
    ) as caught:
        find_format(b"\0\0\1\0 whatever", f"a.{suffix}")
    assert caught.value.reason == "unsupported_format"
    with pytest.raises(ImageError) as caught:
        find_format(b"\0\0\1\0 whatever", "a.jpg")
    assert caught.value.reason == "not_an_image"


def test_a_link_to_nothing_is_said_to_be_one(photos: Path) -> None:
    (photos / "cat" / "gone.jpg").symlink_to("nowhere")
    found = [finding for finding in list_for_check(photos).findings if finding.kind == "unreadable"]
    assert [finding.message for finding in found] == ["cat/gone.jpg: is a broken link"]
    assert "broken link" in found[0].to_dict()["mend"]
