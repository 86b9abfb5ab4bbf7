"""A look at a folder of images, the workload that is drafted from it, and ``mlops new``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from vision_mlops.cli.main import main
from vision_mlops.config import list_workloads, load_workload
from vision_mlops.config.workload import Split
from vision_mlops.config.workload_files import (
    find_workload,
    is_shipped,
    own_workload,
    parse_workload,
    shipped_workloads,
)
from vision_mlops.core.errors import ConfigError, DataError
from vision_mlops.data import overview as looking
from vision_mlops.data.overview import FolderOverview, look_at
from vision_mlops.data.workload_draft import draft, workload_text
from vision_mlops.images.decoding import read_size

Run = Callable[..., tuple[int, str, str]]


def write_images(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (40, 30)) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", size, (number, 0, 0)).save(root / label / f"{number}.png")
    return root


def look_of(counts: Mapping[str, int], width: int = 640, height: int = 480, **more: Any) -> FolderOverview:
    values = {"splits": {}, "same_size": False, "unreadable": [], "left_out": [], "small": {}, **more}
    return FolderOverview(folder=Path("images"), counts=dict(counts), width=width, height=height, **values)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``mlops`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *words])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        return int(code), printed.out, printed.err

    return call


def test_look_counts_classes_and_reads_sizes(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"cat": 3, "dog": 2})
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "pets" / "dog" / "broken.jpg").write_bytes(b"no image either")
    look = look_at(tmp_path / "pets")
    assert look.counts == {"cat": 3, "dog": 2}
    assert (look.width, look.height, look.same_size) == (40, 30, True)
    assert look.left_out == ["1 file that is not an image: cat/notes.txt"]
    assert len(look.unreadable) == 1
    assert "broken.jpg: not an image" in look.unreadable[0]
    Image.new("RGB", (80, 30)).save(tmp_path / "pets" / "cat" / "wide.png")
    assert not look_at(tmp_path / "pets").same_size


def test_look_counts_what_will_be_used(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{split}/{label}": 12 for split in ("train", "test") for label in ("cat", "dog")})
    write_images(tmp_path, {"train/ant": 4, "train/fish": 0, "test/fish": 0, "train/none": 0})
    for place in ("train/cat", "test/fish", "train/fish"):
        for number in range(8):
            (tmp_path / place / f"broken{number}.jpg").write_bytes(b"")
    look = look_at(tmp_path, 5)
    assert look.counts == {"cat": 24, "dog": 24}
    assert look.small == {"ant": 4, "fish": 0, "none": 0}
    assert look.splits == {"train": 24, "test": 24}
    assert (look.images, look.largest_share, len(look.unreadable)) == (48, 0.5, 24)
    assert look_at(tmp_path).counts == {"ant": 4, "cat": 24, "dog": 24}


def test_new_drafts_floors_for_what_will_be_used(tmp_path: Path, run: Run) -> None:
    write_images(tmp_path / "pets", {"cat": 14, "dog": 14, "fish": 0})
    for place in ("cat", "fish"):
        for number in range(12):
            (tmp_path / "pets" / place / f"broken{number}.jpg").write_bytes(b"no image")
    code, out, err = run("new", "pets", "--images", "pets")
    assert code == 0, err
    assert out.split() == ["class", "images", "cat", "14", "dog", "14"]
    assert "class 'fish' has 0 images, fewer than 5: it will be left out" in err
    text = (tmp_path / "workloads" / "pets.yml").read_text(encoding="utf-8")
    assert text.startswith("# 28 images of 2 classes, ")
    assert load_workload("pets").gate.min_accuracy == 0.75


def test_look_sees_a_turned_photograph_as_it_is_displayed(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 0, "b": 0})
    exif = Image.Exif()
    exif[0x0112] = 6
    for label in "ab":
        Image.new("RGB", (60, 20)).save(tmp_path / label / "turned.jpg", exif=exif)
    look = look_at(tmp_path)
    assert (look.width, look.height) == (20, 60)


def test_look_reads_a_bounded_number_of_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, {"a": 6, "b": 6})
    read: list[Path] = []

    def counting(path: Path) -> tuple[int, int]:
        read.append(path)
        return read_size(path)

    monkeypatch.setattr(looking, "MOST_HEADERS", 4)
    monkeypatch.setattr(looking, "read_size", counting)
    assert look_at(tmp_path).images == 12
    assert [path.parent.name for path in read] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.write_text(""), "is a file, not a folder"),
        (lambda root: root.mkdir(), "it has no images"),
        (lambda root: write_images(root, {"only": 3}), r"1 class folder with images"),
        (
            lambda root: [(root / x).mkdir(parents=True) or (root / x / "a.jpg").touch() for x in "ab"],
            "none of its files",
        ),
        (
            lambda root: (write_images(root, {"a": 3, "b": 0}) / "b" / "x.jpg").write_bytes(b"no image"),
            "1 class folder with images that can be read",
        ),
    ],
)
def test_look_says_what_is_wrong_with_a_folder(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "root")
    with pytest.raises(DataError, match=message):
        look_at(tmp_path / "root")


def test_expected_sizes_of_splits(tmp_path: Path) -> None:
    assert [look_of({"a": 60, "b": 40}).expected(name, Split()) for name in ("train", "val", "test")] == [70, 15, 15]
    halves = look_of({"a": 100, "b": 100}, splits={"train": 150, "test": 50})
    assert [halves.expected(name, Split()) for name in ("train", "val", "test")] == [128, 22, 50]
    root = tmp_path / "given"
    for split, count in {"train": 4, "test": 2}.items():
        write_images(root / split, {"a": count, "b": count})
    assert look_at(root).splits == {"train": 8, "test": 4}


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (look_of({"a": 1000, "b": 1000}), {"image_size": 224, "frozen_stages": 3, "batch_size": 32, "min_accuracy": 0.75}),
        (look_of({"a": 900, "b": 100}), {"min_accuracy": 0.95, "min_recall_per_class": 0.5}),
        (look_of({"a": 20, "b": 20}), {"batch_size": 8, "learning_rate": 5e-4, "epochs": 30, "min_recall_per_class": 0.0}),
        (look_of({f"class {n}": 170 for n in range(120)}), {"frozen_stages": 2, "epochs": 3, "min_accuracy": 0.5}),
        (look_of({"a": 99, "b": 99}, 8, 8, same_size=True), {"image_size": 96}),
        (look_of({"a": 99, "b": 99}, 320, 240, same_size=True), {"image_size": 277}),
        (look_of({"a": 99, "b": 99}, 100, 140), {"image_size": 128}),
        (look_of({str(digit): 99 for digit in range(12)}), {"flip": False}),
        (look_of({"turn left": 99, "turn_right": 99}), {"flip": False}),
        (look_of({"cleft": 99, "brighter": 99}), {"flip": True}),
    ],
)  # fmt: skip
def test_draft(look: FolderOverview, expected: dict[str, Any]) -> None:
    found = draft(look)
    assert {key: getattr(found, key) for key in expected} == expected


@pytest.mark.parametrize(
    "label", ["plain", 'a "quoted" one', "Käse\tund # Brot: {x}", "line\nbreak", "\x7f\udcff", "犬", "a\\b"]
)
def test_text_of_a_workload_is_valid_whatever_classes_are_called(label: str) -> None:
    look = look_of({label: 30, "other": 40}, splits={"train": 50, "test": 20})
    text = workload_text("some", f"Title: {label}", f"folder/{label}", look)
    workload = parse_workload(text, "some.yml")
    assert workload.title == f"Title: {label}"
    assert workload.data.path == f"folder/{label}"
    assert set(yaml.safe_load(text)) == {"name", "title", "data", "model", "training", "gate"}
    assert "\nname: some\n" in text


def test_new_writes_a_workload_that_its_name_finds(tmp_path: Path, run: Run) -> None:
    write_images(tmp_path / "photos" / "pets", {"cat": 30, "dog": 3, "owl": 6})
    code, out, err = run("new", "my-pets", "--images", "photos/pets")
    assert code == 0, err
    assert out.split() == ["class", "images", "cat", "30", "owl", "6"]
    assert "warning: class 'dog' has 3 images, fewer than 5: it will be left out" in err
    assert err.endswith("wrote workloads/my-pets.yml; review it, then continue with\n  mlops run --workload my-pets\n")
    loaded = load_workload("my-pets")
    assert (loaded.name, loaded.title, loaded.data.path) == ("my-pets", "My pets", "photos/pets")
    assert "my-pets" in list_workloads()
    assert not is_shipped("my-pets")
    assert run("config", "check", "--workload", "my-pets")[0] == 0
    before = (tmp_path / "workloads" / "my-pets.yml").read_bytes()
    code, _, err = run("new", "my-pets", "--images", "photos/pets", "--title", "Others")
    assert (code, (tmp_path / "workloads" / "my-pets.yml").read_bytes()) == (2, before)
    assert "workloads/my-pets.yml exists already\n  -> choose another name, or give --overwrite" in err
    code, out, _ = run("new", "my-pets", "--images", "photos/pets", "--title", "Others", "--overwrite", "--json")
    assert code == 0
    assert json.loads(out)["counts"] == {"cat": 30, "owl": 6}
    assert load_workload("my-pets").title == "Others"


@pytest.mark.parametrize("name", ["no", "on", "yes", "true", "null"])
def test_a_name_that_yaml_reads_as_something_else(tmp_path: Path, run: Run, name: str) -> None:
    write_images(tmp_path / "pets", {"cat": 6, "dog": 6})
    code, _, err = run("new", name, "--images", "pets")
    assert (code, load_workload(name).name) == (0, name), err


def test_new_names_a_folder_elsewhere_by_its_whole_path(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "elsewhere", {"a": 6, "b": 6})
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert run("new", "ab", "--images", "../elsewhere")[0] == 0
    assert load_workload("ab").data.path == str(images)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Big Cats", "--images", "pets"], "'Big Cats' cannot be the name of a workload\n  -> use 2 to 63 lower case"),
        (["../up", "--images", "pets"], "'../up' cannot be the name of a workload"),
        (["textile", "--images", "pets"], "'textile' is the name of a shipped workload\n  -> choose another name"),
        (["cats", "--images", "nowhere"], "nowhere does not exist\n  -> give a folder with one sub-folder of images"),
        (["cats", "--images", "pets/cat"], "its images are not in class folders"),
        (
            ["cats", "--images", "few"],
            "few: 1 class folder with at least 5 images; a classifier needs at least two: a has 6, b has 4\n"
            "  -> add images of these classes",
        ),
    ],
)
def test_new_refuses(tmp_path: Path, run: Run, words: list[str], message: str) -> None:
    write_images(tmp_path / "pets", {"cat": 6, "dog": 6})
    write_images(tmp_path / "few", {"a": 6, "b": 4})
    code, out, err = run("new", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "workloads").exists()


def test_own_workload_wins_over_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_shipped("textile")
    shipped = find_workload("textile")
    own = own_workload("textile")
    own.parent.mkdir()
    own.write_text(shipped.read_text().replace("Textile inspection", "Ours"))
    assert load_workload("textile").title == "Ours"
    assert not is_shipped("textile")
    assert list_workloads() == shipped_workloads()
    with pytest.raises(ConfigError, match=r"did you mean 'textile'\? Known: .*`mlops new NAME --images DIR`"):
        find_workload("textiles")
