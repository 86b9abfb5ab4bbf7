"""Preparing images: splits without leaks, what is left out and why, and what never gets lost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.config import Workload, load_workload
from vision_mlops.config.workload import Data, Split
from vision_mlops.core.errors import DataError
from vision_mlops.core.hashing import file_hash
from vision_mlops.data.manifest import SPLITS, Manifest, read_manifest, write_manifest
from vision_mlops.data.prepare import PrepareResult, prepare
from vision_mlops.data.sources import find_source
from vision_mlops.data.splits import assign
from vision_mlops.images.decoding import open_rgb

WORKLOAD = Workload(name="shapes", data=Data(min_images_per_class=3))
RUNNER = CliRunner()


def draw(path: Path, seed: int) -> Path:
    """An 8 x 6 image of its own for each seed, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path)
    return path


def make_source(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Folder of class folders with ``counts`` distinct images."""
    for label, count in counts.items():
        for number in range(count):
            seed += 1
            draw(folder / label / f"{number:02d}.png", seed)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_source(tmp_path / "photos", {"cat": 8, "dog": 6})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "prepared"


def run(photos: Path, out: Path, *, strict: bool = False, workload: Workload = WORKLOAD) -> PrepareResult:
    return prepare(workload, out, images=photos, strict=strict)


def refused(photos: Path, out: Path, *, strict: bool = False) -> str:
    before = snapshot(out)
    with pytest.raises(DataError) as caught:
        run(photos, out, strict=strict)
    assert snapshot(out) == before
    assert out.exists() or not out.parent.exists() or not list(out.parent.iterdir())
    return str(caught.value)


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (file_hash(path), path.stat().st_mtime_ns) for path in files}


def where(result: PrepareResult) -> dict[str, set[str]]:
    """Splits in which each content lies."""
    found: dict[str, set[str]] = defaultdict(set)
    for image in result.manifest.images:
        found[image.sha256].add(image.split)
    return found


def check_whole(result: PrepareResult) -> None:
    """Manifest and folder agree, and no content lies in two splits."""
    manifest = read_manifest(result.folder)
    assert manifest == result.manifest
    files = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "prepare.json", *(image.path for image in manifest.images)}
    for image in manifest.images:
        assert image.path.startswith(f"{image.split}/{image.label}/")
        assert file_hash(result.folder / image.path) == image.sha256
    assert all(len(splits) == 1 for splits in where(result).values())
    assert all(count > 0 for counts in manifest.counts().values() for count in counts.values())
    assert sorted(path.name for path in result.folder.parent.iterdir()) == [result.folder.name]


@st.composite
def splits_of(draw_: st.DrawFn) -> Split:
    train, val = draw_(st.integers(1, 18)), draw_(st.integers(1, 18))
    total = train + val + draw_(st.integers(1, 18))
    return Split(train=train / total, val=val / total, test=1 - train / total - val / total, seed=draw_(st.integers()))


CLASSES = st.dictionaries(st.text(max_size=5), st.integers(1, 40), min_size=1, max_size=4)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(counts=CLASSES, split=splits_of(), order=st.randoms(use_true_random=False))
def test_assign(counts: dict[str, int], split: Split, order: random.Random) -> None:
    items = [(f"{label}/{number}", label) for label, count in counts.items() for number in range(count)]
    shuffled = [*items, *items[::3]]
    order.shuffle(shuffled)
    found = assign(items, split)
    assert assign(shuffled, split) == found
    assert set(found) == {content for content, _ in items}
    for label, count in counts.items():
        sizes = Counter(found[content] for content, other in items if other == label)
        assert set(sizes) <= set(SPLITS)
        assert sum(sizes.values()) == count
        if count >= 3:
            assert set(sizes) == set(SPLITS)
        wanted = {name: count * getattr(split, name) for name in SPLITS}
        tolerance = 1.0 if min(wanted.values()) >= 1 else 3.0
        assert all(abs(sizes[name] - wanted[name]) < tolerance for name in SPLITS)


def test_assign_depends_on_the_seed_and_each_class_only() -> None:
    items = [(f"{label}{number}", label) for label in "ab" for number in range(50)]
    first, second = (assign(items, Split(seed=seed)) for seed in (0, 1))
    assert first != second
    assert Counter(first.values()) == Counter(second.values())
    alone = assign(items[:50], Split())
    assert alone == {content: first[content] for content in alone}


def test_a_fraction_of_0_leaves_its_split_empty() -> None:
    split = Split().model_copy(update={"train": 0.5, "val": 0.5, "test": 0.0})
    assert set(assign([(str(i), "a") for i in range(7)], split).values()) == {"train", "val"}


def test_folder_of_class_folders(photos: Path, out: Path) -> None:
    result = run(photos, out)
    check_whole(result)
    assert (result.reused, result.warnings) == (False, [])
    assert result.manifest.classes == ["cat", "dog"]
    assert result.manifest.counts()["train"] == {"cat": 6, "dog": 4}
    assert {(image.width, image.height) for image in result.manifest.images} == {(8, 6)}
    assert result.manifest.source == str(photos)
    assert out.stat().st_mode & 0o777 == 0o755


def test_sizes_are_those_of_the_upright_image(photos: Path, out: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(photos / "cat" / "turned.jpg", exif=exif)
    sizes = {(image.width, image.height) for image in run(photos, out).manifest.images}
    assert sizes == {(8, 6), (10, 20)}


@pytest.mark.parametrize(
    ("names", "drawn"),
    [
        ({"train": "train", "val": "val", "test": "test"}, set()),
        ({"train": "train", "valid": "val", "test": "test"}, set()),
        ({"Train": "train", "Validation": "val", "TEST": "test"}, set()),
        ({"Training": "train", "Testing": "test"}, {"val"}),
        ({"train": "train", "test": "test"}, {"val"}),
        ({"train": "train", "val": "val"}, {"test"}),
        ({"train": "train"}, {"val", "test"}),
    ],
)
def test_a_given_split_is_kept_and_the_rest_is_drawn(
    tmp_path: Path, out: Path, names: dict[str, str], drawn: set[str]
) -> None:
    given_split = {}
    for seed, (folder, split) in enumerate(names.items()):
        for path in make_source(tmp_path / "given" / folder, {"cat": 10, "dog": 10}, seed * 100).rglob("*.png"):
            given_split[file_hash(path)] = split
    result = run(tmp_path / "given", out)
    check_whole(result)
    assert len(result.manifest.images) == 20 * len(names)
    for image in result.manifest.images:
        origin = given_split[image.sha256]
        assert image.split == origin or (origin == "train" and image.split in drawn)


def test_val_and_test_without_train_is_no_dataset(tmp_path: Path, out: Path) -> None:
    for folder in ("val", "test"):
        make_source(tmp_path / "given" / folder, {"cat": 4, "dog": 4})
    assert "test, val without train" in refused(tmp_path / "given", out)


def test_a_class_may_be_called_test_or_training(tmp_path: Path, out: Path) -> None:
    source = make_source(tmp_path / "source", {"training": 4, "match": 4, "test": 4})
    assert run(source, out).manifest.classes == ["match", "test", "training"]


def test_other_folders_beside_train_are_refused(tmp_path: Path, out: Path) -> None:
    for folder in ("train", "unlabelled"):
        make_source(tmp_path / "given" / folder, {"cat": 4, "dog": 4})
    text = refused(tmp_path / "given", out)
    assert "unlabelled is next to train, which may be a split or classes" in text
    assert "if train is a class, rename its folder, for example to train_class" in text


def test_a_class_that_a_given_split_lacks(tmp_path: Path, out: Path) -> None:
    make_source(tmp_path / "given" / "train", {"cat": 4, "dog": 4})
    make_source(tmp_path / "given" / "test", {"cat": 4}, 100)
    assert "class 'dog' has no image in test\n  -> add images" in refused(tmp_path / "given", out)


def test_duplicates_stay_on_one_side(photos: Path, out: Path) -> None:
    for number in range(8):
        for copy in range(3):
            shutil.copyfile(photos / "cat" / f"{number:02d}.png", photos / "cat" / f"copy-{copy}-{number}.png")
    result = run(photos, out)
    check_whole(result)
    assert len(result.manifest.images) == 8 * 4 + 6
    assert result.manifest.counts()["train"] == {"cat": 6 * 4, "dog": 4}


def test_split_depends_on_contents_only(photos: Path, tmp_path: Path, out: Path) -> None:
    first = run(photos, out)
    for number, path in enumerate(sorted((photos / "cat").iterdir(), reverse=True)):
        path.rename(photos / "cat" / f"renamed-{number}.png")
    assert where(run(photos, tmp_path / "second")) == where(first)


def test_fingerprint_does_not_depend_on_the_place(tmp_path: Path) -> None:
    fingerprints = set()
    for place in ("here", "there/deeper"):
        source = make_source(tmp_path / place / "photos", {"cat/a": 4, "cat/b": 4, "dog": 6})
        fingerprints.add(run(source, tmp_path / place / "out").manifest.fingerprint)
    assert len(fingerprints) == 1


def test_equal_names_in_nested_folders_are_all_kept(tmp_path: Path, out: Path) -> None:
    source = make_source(tmp_path / "source", {"cat/a": 9, "cat/b/c": 9, "dog": 6})
    shutil.copyfile(source / "cat" / "a" / "00.png", source / "cat" / "00.PNG")
    result = run(source, out)
    check_whole(result)
    assert Counter(image.label for image in result.manifest.images) == {"cat": 19, "dog": 6}
    assert len({image.path.casefold() for image in result.manifest.images}) == 25


def test_the_same_image_under_two_classes_is_left_out(photos: Path, out: Path) -> None:
    shutil.copyfile(photos / "cat" / "00.png", photos / "dog" / "again.png")
    text = refused(photos, out, strict=True)
    for name in ("cat/00.png", "dog/again.png"):
        assert f"{name}: the same image is in the classes cat and dog" in text
    result = run(photos, out)
    check_whole(result)
    assert [(item.path, item.reason) for item in result.manifest.excluded] == [
        ("cat/00.png", "conflict"),
        ("dog/again.png", "conflict"),
    ]
    assert len(result.manifest.images) == 13


def test_a_leak_between_given_splits_stays_where_it_judges(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "given"
    for seed, split in enumerate(("train", "val", "test")):
        make_source(source / split, {"cat": 6, "dog": 6}, seed * 100)
    shutil.copyfile(source / "train" / "cat" / "00.png", source / "test" / "cat" / "leak.png")
    shutil.copyfile(source / "train" / "dog" / "00.png", source / "val" / "dog" / "leak.png")
    assert "train/cat/00.png: the same image is in test" in refused(source, out, strict=True)
    result = run(source, out)
    check_whole(result)
    assert [item.message for item in result.manifest.excluded] == [
        "train/cat/00.png: the same image is in test",
        "train/dog/00.png: the same image is in val",
    ]
    assert {item.reason for item in result.manifest.excluded} == {"leak"}


def test_small_classes_are_left_out(photos: Path, out: Path) -> None:
    make_source(photos, {"bird": 2}, 500)
    (photos / "empty").mkdir()
    message = "class 'bird' has 2 different usable images, fewer than 3"
    assert message in refused(photos, out, strict=True)
    result = run(photos, out)
    check_whole(result)
    empty = "class 'empty' has 0 different usable images, fewer than 3"
    assert result.warnings == [f"left out: {message}", f"left out: {empty}"]
    assert result.manifest.classes == ["cat", "dog"]


def test_copies_do_not_make_a_class_large_enough(photos: Path, out: Path) -> None:
    for number in range(9):
        draw(photos / "bird" / f"{number}.png", 500)
    assert run(photos, out).warnings == ["left out: class 'bird' has 1 different usable image, fewer than 3"]


def damage(folder: Path) -> dict[str, str]:
    """One file of each kind of damage; reason by path."""
    whole = draw(folder / "whole.bmp", 900).read_bytes()
    (folder / "whole.bmp").unlink()
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    bomb += struct.pack(">I", zlib.crc32(b"IHDR" + header)) + struct.pack(">I", 0) + b"IDAT"
    bomb += struct.pack(">I", zlib.crc32(b"IDAT"))
    contents = {
        "zero.png": (b"", "empty"),
        "text.JPG": (b"no picture", "not_an_image"),
        "cut.bmp": (whole[:-40], "truncated"),
        "bomb.png": (bomb, "too_large"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {**{name: reason for name, (_, reason) in contents.items()}, "gone.png": "unreadable"}


def test_broken_files_are_left_out_with_name_and_reason(photos: Path, out: Path) -> None:
    reasons = damage(photos / "cat")
    text = refused(photos, out, strict=True)
    assert text.startswith(f"{len(reasons)} problems: ")
    assert all(f"cat/{name}: " in text for name in reasons)
    result = run(photos, out)
    check_whole(result)
    assert {item.path: item.reason for item in result.manifest.excluded} == {
        f"cat/{name}": reason for name, reason in reasons.items()
    }
    assert all(any(text.startswith(f"left out: cat/{name}: ") for text in result.warnings) for name in reasons)
    assert len(result.manifest.images) == 14
    assert run(photos, out).warnings == result.warnings
    assert "5 problems" in refused(photos, out, strict=True)


def test_many_problems_are_counted(photos: Path, out: Path) -> None:
    for number in range(13):
        (photos / "cat" / f"zero-{number:02d}.png").touch()
    text = refused(photos, out, strict=True)
    assert text.startswith("13 problems: ")
    assert "; and 3 more" in text
    assert "zero-12" not in text


def test_pixel_limit_of_the_workload(photos: Path, out: Path) -> None:
    Image.new("RGB", (30, 30)).save(photos / "cat" / "large.png")
    small = WORKLOAD.model_copy(update={"data": Data(min_images_per_class=3, max_pixels=500)})
    result = run(photos, out, workload=small)
    assert result.warnings == ["left out: cat/large.png: 30 x 30 pixels is more than the limit of 500"]


def test_unusual_names(tmp_path: Path, out: Path) -> None:
    labels = ("très bon ✓", " blanks ", "日本語", "quote\"s'")
    source = make_source(tmp_path / "my photos ü", dict.fromkeys(labels, 4))
    for number, name in enumerate(
        ("ÄÖ Ü.PNG", "a\nb.png", "..jpg.bmp", "-x.TIFF", "many   blanks.Jpeg", "x" * 240 + ".png")
    ):
        draw(source / labels[0] / name, 600 + number)
    (source / labels[0] / "line\nend.png").touch()
    assert run(source, tmp_path / "other").warnings == [
        r"left out: très bon ✓/line\nend.png: the file is empty (0 bytes)"
    ]
    (source / labels[0] / "line\nend.png").unlink()
    result = run(source, out, strict=True)
    check_whole(result)
    assert result.manifest.classes == sorted(labels)
    assert len(result.manifest.images) == 22 - 1, "a name that starts with a dot is hidden"
    assert run(source, out).reused


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_left_out(photos: Path, out: Path) -> None:
    target = Path(os.fsdecode(os.fsencode(photos / "cat") + b"/caf\xe9.png"))
    try:
        draw(target, 700)
    except OSError:
        pytest.skip("the file system refuses such names")
    result = run(photos, out)
    check_whole(result)
    assert result.warnings == ["left out: cat/caf\ufffd.png: the name is not UTF-8"]
    assert run(photos, out).reused


def test_hidden_files_are_ignored_and_others_counted(photos: Path, out: Path) -> None:
    for name in (".DS_Store", ".hidden.png", "Thumbs.db", "desktop.ini"):
        (photos / "cat" / name).write_bytes(b"x")
    for folder in (".git", "__MACOSX"):
        draw(photos / folder / "x.png", 800)
        draw(photos / "cat" / folder / "x.png", 801)
    for name in ("notes.txt", "more.TXT", "README"):
        (photos / "cat" / name).write_bytes(b"x")
    others = "2 files that are not images: cat/more.TXT, cat/notes.txt"
    assert refused(photos, out, strict=True).startswith(f"2 problems: {others}")
    result = run(photos, out)
    check_whole(result)
    assert len(result.manifest.images) == 14
    assert result.warnings == [f"left out: {others}"]
    assert run(photos, out).warnings == result.warnings


def test_linked_files_count_and_linked_folders_do_not(photos: Path, tmp_path: Path, out: Path) -> None:
    (photos / "cat" / "link.png").symlink_to(draw(tmp_path / "elsewhere.png", 900))
    (photos / "cat" / "loop").symlink_to(photos, target_is_directory=True)
    result = run(photos, out)
    check_whole(result)
    assert len(result.manifest.images) == 15
    assert not any((result.folder / image.path).is_symlink() for image in result.manifest.images)


def test_prepared_files_are_copies(photos: Path, out: Path) -> None:
    before = snapshot(photos)
    for image in run(photos, out).manifest.images:
        (out / image.path).write_bytes(b"painted over")
    assert snapshot(photos) == before


def test_loose_images_beside_class_folders_are_reported(photos: Path, out: Path) -> None:
    run(photos, out)
    draw(photos / "loose.png", 900)
    message = "loose.png: is not in a class folder"
    assert message in refused(photos, out, strict=True)
    result = run(photos, out)
    check_whole(result)
    assert result.warnings == [f"left out: {message}"]
    assert not result.reused


def test_loose_images_in_a_split_folder_are_reported(tmp_path: Path, out: Path) -> None:
    make_source(tmp_path / "given" / "train", {"cat": 4, "dog": 4})
    draw(tmp_path / "given" / "train" / "loose.png", 900)
    assert run(tmp_path / "given", out).warnings == ["left out: train/loose.png: is not in a class folder"]


def test_sources_without_images(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "source"
    assert f"{source} does not exist" in refused(source, out)
    source.mkdir()
    assert f"{source}: it has no images" in refused(source, out)
    (source / "cat").mkdir()
    (source / "cat" / "notes.txt").touch()
    assert f"{source}: it has no images" in refused(source, out)
    draw(source / "loose.png", 1)
    assert "its images are not in class folders" in refused(source, out)
    assert "is a file, not a folder" in refused(source / "loose.png", out)


def test_one_class_is_too_few(photos: Path, out: Path) -> None:
    shutil.rmtree(photos / "dog")
    assert "1 usable class; a classifier needs at least two\n  -> add a folder" in refused(photos, out)
    (photos / "dog").mkdir()
    (photos / "dog" / "zero.png").touch()
    assert "dog/zero.png: the file is empty" in refused(photos, out)


def test_a_workload_without_images(out: Path) -> None:
    with pytest.raises(DataError, match="workload shapes does not name any images"):
        prepare(WORKLOAD, out)


def test_path_of_the_workload(photos: Path, out: Path) -> None:
    workload = WORKLOAD.model_copy(update={"data": Data(path=str(photos), min_images_per_class=3)})
    assert len(prepare(workload, out).manifest.images) == 14


def test_out_must_not_touch_the_source_or_foreign_things(photos: Path, tmp_path: Path) -> None:
    before = snapshot(photos)
    for target in (photos, photos / "cat", photos / "new", photos / "cat" / ".." / "new", tmp_path):
        with pytest.raises(DataError, match="overlaps the source"):
            run(photos, target)
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    with pytest.raises(DataError, match="overlaps the source"):
        run(photos, tmp_path / "link" / "new")
    assert snapshot(photos) == before


@pytest.mark.parametrize("name", ["thesis.txt", "manifest.json", "prepare.json", ".hidden"])
def test_a_foreign_folder_survives(photos: Path, out: Path, name: str) -> None:
    out.mkdir(parents=True)
    (out / name).write_text("precious")
    assert "is not empty and was not written by `mlops data prepare`" in refused(photos, out)
    assert (out / name).read_text() == "precious"


def test_an_empty_folder_is_used_and_a_file_is_not(photos: Path, out: Path) -> None:
    out.mkdir(parents=True)
    check_whole(run(photos, out))
    target = out.parent / "file"
    target.write_text("precious")
    for path in (target, target / "below" / "deeper"):
        with pytest.raises(DataError, match=r"file is a file\n  -> choose another --out"):
            run(photos, path)
    assert target.read_text() == "precious"


def test_running_twice_changes_nothing(photos: Path, out: Path) -> None:
    first = run(photos, out)
    before = snapshot(out)
    again = run(photos, out, strict=True)
    assert again.reused
    assert again.manifest == first.manifest
    assert snapshot(out) == before


@pytest.mark.parametrize("change", ["added", "removed", "touched", "repainted"])
def test_a_changed_source_is_prepared_anew(photos: Path, out: Path, change: str) -> None:
    first = run(photos, out)
    path = photos / "cat" / "00.png"
    if change == "added":
        draw(photos / "cat" / "new.png", 900)
    elif change == "removed":
        path.unlink()
    elif change == "touched":
        os.utime(path, ns=(0, 0))
    else:
        draw(path, 901)
    second = run(photos, out)
    check_whole(second)
    assert not second.reused
    assert (second.manifest.fingerprint == first.manifest.fingerprint) == (change == "touched")
    assert run(photos, out).reused


def test_a_changed_setting_is_prepared_anew(photos: Path, out: Path) -> None:
    run(photos, out)
    for data in (Data(min_images_per_class=2), Data(split=Split(seed=1), min_images_per_class=3)):
        second = run(photos, out, workload=WORKLOAD.model_copy(update={"data": data}))
        check_whole(second)
        assert not second.reused
    changed = WORKLOAD.model_copy(update={"training": load_workload("textile").training, "data": data})
    assert run(photos, out, workload=changed).reused


@pytest.mark.parametrize("target", ["image", "edited image", "manifest.json", "prepare.json"])
def test_a_damaged_preparation_is_made_anew(photos: Path, out: Path, target: str) -> None:
    first = run(photos, out)
    image = out / first.manifest.images[0].path
    if target == "image":
        image.unlink()
    elif target == "edited image":
        draw(image, 900)
    else:
        (out / target).write_bytes(b"\xff broken")
    second = run(photos, out)
    check_whole(second)
    assert not second.reused
    assert second.manifest == first.manifest


def test_a_failure_keeps_the_older_preparation(photos: Path, out: Path) -> None:
    run(photos, out)
    shutil.rmtree(photos / "dog")
    refused(photos, out)
    assert len(read_manifest(out).images) == 14


def test_progress_reaches_the_end(photos: Path, out: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepare(WORKLOAD, out, images=photos, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (14, 14)


def test_manifest_round_trip(tmp_path: Path) -> None:
    written = make_prepared(tmp_path)
    assert read_manifest(tmp_path) == written
    assert written.counts() == {split: dict.fromkeys(written.classes, {"train": 8}.get(split, 4)) for split in SPLITS}
    assert [image.path for image in written.of_split("val")] == sorted(
        image.path for image in written.images if image.split == "val"
    )
    shuffled = written.model_copy(update={"images": written.images[::-1], "source": "elsewhere"})
    assert write_manifest(tmp_path, shuffled).fingerprint == written.fingerprint
    assert Manifest.model_validate(json.loads((tmp_path / "manifest.json").read_text())) == shuffled


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"split":"val"', '"split":"train"', "the fingerprint does not match the records"),
        ('"label":"red"', '"label":"blue"', "the fingerprint does not match the records"),
        ("train/red/000.png", "train/red/999.png", "the fingerprint does not match the records"),
        ('"sha256":"', '"sha256":"0', "the fingerprint does not match the records"),
        ('"green"', '"grün"', "the fingerprint does not match the records"),
        ('"split":"val"', '"split":"dev"', "not a valid manifest"),
        ('"seed"', '"seeed"', "not a valid manifest"),
        ('"images"', "images", "not a valid manifest"),
    ],
)
def test_a_tampered_manifest_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    make_prepared(tmp_path, train=2, val=1, test=1)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert caught.value.hint == "run `mlops data prepare` again"


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is not prepared data: it has no manifest\.json\n  -> run `mlops data prepare`"
    ):
        read_manifest(tmp_path)


def test_bundled_textile_images() -> None:
    source = find_source(load_workload("textile"), None)
    assert len(source.images) == 2000
    assert {image.label for image in source.images} == {"nominal", "local", "global"}
    assert {image.split for image in source.images} == {None}
    assert source.loose == []
    assert source.name == "package:conformal_clip_data/data/textile_images/simulated"


def corrupted(out: Path, *overrides: str) -> PrepareResult:
    return prepare(load_workload("textile_degraded", ["data.min_images_per_class=3", *overrides]), out)


def test_bundled_images_are_corrupted_in_the_same_way_each_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision_mlops.data.sources.bundled_folder", lambda: photos)
    shutil.copyfile(photos / "cat" / "00.png", photos / "cat" / "the same.png")
    before = snapshot(photos)
    result = corrupted(tmp_path / "out" / "first")
    check_whole(result)
    assert snapshot(photos) == before
    assert corrupted(tmp_path / "out" / "first").reused
    assert result.manifest.source.endswith(", corrupted")
    assert {Path(image.path).suffix for image in result.manifest.images} == {".jpg"}
    assert len({image.sha256 for image in result.manifest.images}) == len(result.manifest.images) - 1
    plain = prepare(WORKLOAD, tmp_path / "plain" / "out", images=photos)
    named = {image.path: image for image in result.manifest.images}
    for image in plain.manifest.images:
        ours = named[str(Path(image.path).with_suffix(".jpg"))]  # in the split of its original
        assert (ours.label, ours.width, ours.height) == (image.label, image.width, image.height)
        assert np.any(np.asarray(open_rgb(result.folder / ours.path)) != open_rgb(plain.folder / image.path))
    again = corrupted(tmp_path / "again" / "out")
    assert again.manifest.fingerprint == result.manifest.fingerprint
    other = corrupted(tmp_path / "again" / "out", "data.corrupt.seed=1")
    assert other.manifest.fingerprint != result.manifest.fingerprint
    assert [image.path for image in other.manifest.images] == [image.path for image in result.manifest.images]


def test_images_given_in_place_of_the_bundled_ones_are_not_corrupted(photos: Path, out: Path) -> None:
    workload = load_workload("textile_degraded", ["data.min_images_per_class=3"])
    given = {file_hash(path) for path in photos.rglob("*.png")}
    assert {image.sha256 for image in prepare(workload, out, images=photos).manifest.images} == given


def test_prepare_command(photos: Path, out: Path, home: Path) -> None:
    (photos / "cat" / "zero.png").touch()
    words = ["data", "prepare", "--images", str(photos), "--set", "data.min_images_per_class=3"]
    result = RUNNER.invoke(app, [*words, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    manifest = read_manifest(out)
    assert printed["counts"] == {split: dict(counts) for split, counts in manifest.counts().items()}
    assert (printed["folder"], printed["fingerprint"]) == (str(out), manifest.fingerprint)
    assert [item["path"] for item in printed["excluded"]] == ["cat/zero.png"]
    assert "warning: left out: cat/zero.png: the file is empty (0 bytes)" in result.stderr
    assert f"prepared: {out} (fingerprint {manifest.fingerprint[:12]})" in result.stderr
    again = RUNNER.invoke(app, [*words, "--out", str(out), "--json"])
    assert again.stdout == result.stdout
    assert f"unchanged: {out}" in again.stderr
    assert RUNNER.invoke(app, words).exit_code == 0
    assert read_manifest(home / "data" / "textile") == manifest
    strict = RUNNER.invoke(app, [*words, "--strict"])
    assert isinstance(strict.exception, DataError)


def test_show_command(tmp_path: Path) -> None:
    manifest = make_prepared(tmp_path / "data")
    text = RUNNER.invoke(app, ["data", "show", str(tmp_path / "data")]).stdout
    assert [line.split() for line in text.splitlines()] == [
        ["class", "train", "val", "test"],
        *([label, "8", "4", "4"] for label in manifest.classes),
    ]
    printed = json.loads(RUNNER.invoke(app, ["data", "show", str(tmp_path / "data"), "--json"]).stdout)
    assert printed["counts"]["train"] == dict.fromkeys(manifest.classes, 8)
    assert isinstance(RUNNER.invoke(app, ["data", "show", str(tmp_path)]).exception, DataError)


def test_bad_images_end_with_one_line_and_exit_code_2(tmp_path: Path, out: Path) -> None:
    command = [sys.executable, "-m", "vision_mlops", "data", "prepare", "--out", str(out), "--images"]
    done = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    message, hint = done.stderr.splitlines()
    assert message == f"error: {tmp_path / 'no'} does not exist"
    assert hint == "  -> give a folder with one sub-folder of images per class"
    assert not out.parent.exists()


def test_example_images_are_of_the_test_split_of_the_shipped_workload() -> None:
    workload = load_workload("textile")
    hashes = {
        hashlib.sha256(image.path.read_bytes()).hexdigest(): image.label for image in find_source(workload, None).images
    }
    splits = assign(hashes.items(), workload.data.split)
    examples = sorted((Path(__file__).parents[3] / "data" / "examples").glob("*.jpg"))
    assert Counter(path.stem.split("_")[0] for path in examples) == {"nominal": 2, "local": 2, "global": 2}
    for path in examples:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (hashes[content], splits[content]) == (path.stem.split("_")[0], "test"), path.name
