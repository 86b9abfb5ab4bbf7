"""``mlops data add-labels``: which corrections become images of a new version, and that nothing else changes in it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from testing.support.corrections import NOON, corrected
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import DataError, MlopsError
from vision_mlops.data.check.dataset_check import CheckSettings, check
from vision_mlops.data.check.file_listing import list_images
from vision_mlops.data.data_versions import find, versions
from vision_mlops.data.manifest import ImageRecord, Manifest, read_manifest, write_manifest
from vision_mlops.flask_app.corrections.folder_store import FolderStore

RUNNER = CliRunner()
WORKLOAD = "name: pets\ndata: {path: photos, min_images_per_class: 3}\nmodel: {image_size: 32}\n"
Answer = dict[str, Any]


def picture(number: int) -> Image.Image:
    """A picture that looks like no other: discs of any colour on coloured ground."""
    generator = np.random.default_rng(number)
    ground = generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(ground).resize((96, 96), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, radius = (int(value) for value in generator.integers(16, 80, 3))
        pen.circle((x, y), radius / 3, fill=tuple(int(value) for value in generator.integers(0, 255, 3)))
    return image.filter(ImageFilter.GaussianBlur(2))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def nearly(image: Image.Image) -> bytes:
    """Other bytes of a picture that looks the same."""
    return encoded(image.resize((80, 80)), "JPEG", quality=92)


@pytest.fixture
def work(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a workload and its prepared data: pictures 0 to 17, of cats and dogs, in three splits."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "pets.yml").write_text(WORKLOAD)
    folder = home / "data" / "pets"
    records = []
    for number in range(18):
        split, label = ("train", "val", "test")[number % 3], ("cat", "dog")[number % 2]
        data = encoded(picture(number))
        path = folder / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        sha256 = corrected(data).sha256
        record = {"path": path.relative_to(folder).as_posix(), "split": split, "label": label, "sha256": sha256}
        records.append(ImageRecord.model_validate({**record, "width": 96, "height": 96}))
    write_manifest(folder, Manifest(name="pets", source="photos", seed=0, classes=["cat", "dog"], images=records))
    return tmp_path


Keep = Callable[..., str]


@pytest.fixture
def keep(work: Path) -> Keep:
    """Keep a correction in the folder ``corrections``."""
    store = FolderStore(work / "corrections", 10**8)

    def add(image: bytes, label: str | None = "cat", minutes: int = 0, **changes: Any) -> str:
        correction = corrected(image, label, at=NOON + timedelta(minutes=minutes), **changes)
        store.add(correction, image)
        return correction.sha256

    return add


def invoke(*words: object) -> str:
    done = RUNNER.invoke(app, ["data", "add-labels", *map(str, words)])
    if isinstance(done.exception, MlopsError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def added(*words: object) -> Answer:
    return json.loads(invoke("corrections", "-w", "pets", "--json", *words))  # type: ignore[no-any-return]


def manifest_of(reference: str) -> Manifest:
    return read_manifest(Path(find(reference).path))


def records(manifest: Manifest, *splits: str) -> dict[str, ImageRecord]:
    return {record.path: record for record in manifest.images if record.split in splits}


def test_a_new_version_has_the_corrected_images_in_train_and_all_else_as_it_was(
    work: Path, home: Path, keep: Keep
) -> None:
    images = [encoded(picture(100)), encoded(picture(101), "JPEG")]
    keep(images[0], "cat")
    keep(images[1], "dog", suffix=".jpg", minutes=1)
    answer = added()
    names = [f"{corrected(image).sha256[:16]}" for image in images]
    paths = [f"train/cat/correction-{names[0]}.png", f"train/dog/correction-{names[1]}.jpg"]
    assert (answer["reference"], answer["new"], answer["files"]) == ("azureml:pets:1", True, paths)
    assert (answer["added"], answer["not_added"], answer["left_out"]) == ({"cat": 1, "dog": 1}, {}, [])
    before, after = read_manifest(home / "data" / "pets"), manifest_of("azureml:pets:1")
    assert records(after, "val", "test") == records(before, "val", "test")
    assert records(after, "train").items() > records(before, "train").items()
    assert set(records(after, "train")) - set(records(before, "train")) == set(paths)
    folder = Path(find("azureml:pets:1").path)
    assert [(folder / path).read_bytes() for path in paths] == images
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert find("azureml:pets:1").tags == {"corrections": "2"}
    assert after.source == f"{home / 'data' / 'pets'} with corrections of corrections"
    result = check("pets", list_images(folder), work, settings=CheckSettings(image_size=32, smallest_class=3))
    assert not [finding for finding in result.findings if finding.level == "error"]


@pytest.mark.slow
def test_again_it_finds_nothing_new_and_later_corrections_come_on_top(keep: Keep) -> None:
    keep(encoded(picture(100)))
    assert added()["reference"] == "azureml:pets:1"
    again = added()
    assert (again["new"], again["reference"], again["files"]) == (False, "azureml:pets:1", [])
    assert again["not_added"] == {"already-there": 1}
    assert len(versions("pets")) == 1
    keep(encoded(picture(101)), "dog")
    last = added()
    assert (last["base"], last["reference"], last["added"]) == ("azureml:pets:1", "azureml:pets:2", {"dog": 1})
    assert manifest_of("pets:2").source == "azureml:pets:1 with corrections of corrections"
    # From the same base, the same content is the same version.
    same = added("--base", "azureml:pets:1")
    assert (same["new"], same["reference"]) == (False, "azureml:pets:2")


@pytest.mark.slow
def test_a_dry_run_registers_nothing(home: Path, keep: Keep) -> None:
    keep(encoded(picture(100)))
    before = sorted(home.rglob("*"))
    answer = added("--dry-run")
    assert (answer["added"], answer["new"], answer["dry_run"], answer["reference"]) == ({"cat": 1}, False, True, "")
    assert not versions("pets")
    assert [path for path in sorted(home.rglob("*")) if "cache" not in path.parts] == before
    assert added()["new"]


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("label", ["cat", "dog"])
def test_an_image_that_judges_is_never_trained_on(keep: Keep, split: str, near: bool, label: str) -> None:
    """Whatever its label: pictures 1, 4, 7 are in val, 2, 5, 8 in test."""
    for number in (1, 4, 7) if split == "val" else (2, 5, 8):
        keep(nearly(picture(number)) if near else encoded(picture(number)), label)
    keep(encoded(picture(100)))
    answer = added()
    assert answer["not_added"] == {f"in-{split}": 3}
    assert answer["added"] == {"cat": 1}
    assert all(f" {split}/" in item["message"] for item in answer["left_out"])


def spotted(image: Image.Image, levels: int) -> Image.Image:
    """The picture with a spot that is so many grey levels brighter; 14 look the same, 28 do not."""
    spot = Image.new("RGB", image.size)
    ImageDraw.Draw(spot).rectangle((36, 36, 59, 59), fill=(levels,) * 3)
    return ImageChops.add(image, spot)


def test_each_pair_is_compared(home: Path, keep: Keep) -> None:
    """A copy of a test image is found where that is a copy of another one itself, which the new image does not resemble."""
    folder = home / "data" / "pets"
    manifest = read_manifest(folder)
    data = encoded(spotted(picture(2), 14))
    (folder / "test" / "cat" / "also 2.png").write_bytes(data)
    record = {"path": "test/cat/also 2.png", "split": "test", "label": "cat", "sha256": corrected(data).sha256}
    more = ImageRecord.model_validate({**record, "width": 96, "height": 96})
    write_manifest(folder, manifest.model_copy(update={"images": [*manifest.images, more]}))
    keep(encoded(spotted(picture(2), 28)), "cat")
    (left,) = added()["left_out"]
    assert left["message"].endswith("it is nearly identical to test/cat/also 2.png")
    keep(encoded(spotted(picture(2), 60)), "cat", minutes=1)
    assert added()["added"] == {"cat": 1}, "it is another picture"


def test_copies_of_training_images_and_of_each_other_are_added_once(keep: Keep) -> None:
    """Pictures 0 and 6 are cats in train, 3 is a dog."""
    keep(encoded(picture(0)), "cat")
    keep(nearly(picture(6)), "cat")
    keep(nearly(picture(3)), "cat")
    keep(encoded(picture(100)), "dog", minutes=1)
    keep(nearly(picture(100)), "dog", minutes=2)
    answer = added()
    assert answer["not_added"] == {"already-there": 1, "near-copy": 2, "other-label": 1}
    assert answer["files"] == [f"train/dog/correction-{corrected(encoded(picture(100))).sha256[:16]}.png"]
    (other,) = [item for item in answer["left_out"] if item["reason"] == "other-label"]
    assert other["message"].endswith("it is nearly identical to train/dog/3.png, and is corrected to 'cat'")


def test_of_one_person_the_later_word_counts(keep: Keep) -> None:
    image = encoded(picture(100))
    keep(image, "cat", minutes=5)
    keep(image, None, minutes=3)
    keep(image, "dog", minutes=9)
    other = encoded(picture(101))
    keep(other, "dog", minutes=1)
    keep(other, None, minutes=2)
    answer = added()
    assert (answer["added"], answer["not_added"]) == ({"dog": 1}, {"none-of-these": 1})
    assert (answer["corrections"], answer["images"]) == (5, 2)


@pytest.mark.parametrize("second", ["dog", None])
def test_what_people_contradict_each_other_about_is_reported_and_not_used(keep: Keep, second: str | None) -> None:
    image = encoded(picture(100))
    keep(image, "cat", who="ann")
    keep(image, second, who="bob", minutes=9)
    keep(image, second, who="cy", minutes=2)
    answer = added()
    assert (answer["new"], answer["not_added"]) == (False, {"conflict": 1})
    (left,) = answer["left_out"]
    assert "people disagree: ann says 'cat', cy says " in left["message"]
    keep(image, second, who="ann", minutes=20)  # she has changed her mind
    assert added()["not_added"] == ({"none-of-these": 1} if second is None else {})


def test_nearly_equal_images_with_different_labels_are_a_conflict(keep: Keep) -> None:
    keep(encoded(picture(100)), "cat")
    keep(nearly(picture(100)), "dog", minutes=1)
    assert added()["not_added"] == {"conflict": 2}


def test_what_cannot_be_used_is_left_out_and_named(work: Path, keep: Keep) -> None:
    jpeg = encoded(picture(100), "JPEG", quality=95)
    keep(jpeg[: len(jpeg) // 2], "cat", suffix=".jpg")
    keep(encoded(Image.new("RGB", (40, 40), "grey")), "cat")
    keep(b"never an image", "cat")
    gone, damaged = keep(encoded(picture(101))), keep(encoded(picture(102)))
    (work / "corrections" / "images" / f"{gone}.png").unlink()
    (work / "corrections" / "images" / f"{damaged}.png").write_bytes(b"x")
    answer = added()
    assert (answer["new"], answer["not_added"]) == (False, {"unusable": 5})
    told = "\n".join(item["message"] for item in answer["left_out"])
    for words in ("of a single colour", "was changed after it was received", "No such file", "correction-"):
        assert words in told


def test_what_the_check_says_of_new_images_is_passed_on(keep: Keep) -> None:
    small = keep(encoded(picture(100).resize((12, 12))), "cat")
    answer = added()
    assert answer["added"] == {"cat": 1}
    assert any(line.startswith("too-small: ") and small[:16] in line for line in answer["warnings"])


def test_a_class_that_the_data_does_not_have_is_refused_or_split(keep: Keep) -> None:
    for number in range(12):
        keep(encoded(picture(200 + number)), "cow")
    keep(encoded(picture(100)), "cat")
    message = r"pets has no class 'cow', the class that 12 images were corrected to\n  -> .*cat, dog; --new-classes"
    with pytest.raises(DataError, match=message):
        added()
    assert not versions("pets")
    answer = added("--new-classes")
    assert answer["added"] == {"cow": 12, "cat": 1}
    manifest = manifest_of("pets:1")
    assert manifest.classes == ["cat", "cow", "dog"]
    counts = manifest.counts()
    assert (counts["train"]["cow"], counts["val"]["cow"], counts["test"]["cow"]) == (8, 2, 2)
    assert (counts["test"]["cat"], counts["test"]["dog"]) == (3, 3)
    assert added("--new-classes")["not_added"] == {"already-there": 9, "in-val": 2, "in-test": 2}


def test_a_new_class_needs_enough_images(keep: Keep) -> None:
    for number in range(2):
        keep(encoded(picture(200 + number)), "cow")
    with pytest.raises(DataError, match=r"the new class 'cow' has 2 usable images, fewer than 3\n"):
        added("--new-classes")


@pytest.mark.parametrize(
    "label", ["../../etc", "a/b", "..", ".hidden", " cow", "cow\n", "c\0w", "x" * 201, "a\\b", "__MACOSX"]
)
def test_a_class_that_cannot_be_a_folder_is_refused(work: Path, home: Path, keep: Keep, label: str) -> None:
    for number in range(3):
        keep(encoded(picture(200 + number)), label)
    with pytest.raises(DataError, match="is not a valid class name"):
        added("--new-classes")
    assert not versions("pets")
    assert {path.name for path in work.iterdir()} == {"workloads", "corrections", home.name}


def test_where_there_are_no_corrections(work: Path) -> None:
    for place in ("corrections", "workloads"):
        with pytest.raises(DataError, match=r"has no corrections: it has no corrections\.db"):
            invoke(place, "-w", "pets")
    assert not (work / "corrections").exists()
    with pytest.raises(MlopsError, match="is not a storage account"):
        invoke("https://example.org/container/corrections", "-w", "pets")


@pytest.mark.slow
def test_a_base_that_was_changed_or_was_not_split_is_refused(work: Path, home: Path, keep: Keep) -> None:
    keep(encoded(picture(100)))
    prepared = home / "data" / "pets"
    shutil.copytree(prepared, work / "edited")
    (work / "edited" / "train" / "cat" / "0.png").write_bytes(encoded(picture(7)))
    with pytest.raises(DataError, match=r"does not match its manifest\.json"):
        added("--base", "edited")
    with pytest.raises(DataError, match="is not prepared data"):
        added("--base", prepared / "train")
    shutil.copytree(prepared / "train", work / "photos")
    done = RUNNER.invoke(app, ["data", "register", "photos", "--name", "pets"])
    assert done.exit_code == 0
    with pytest.raises(
        DataError, match=r"azureml:pets:1 is not prepared: .*\n  -> run `mlops data prepare --workload pets"
    ):
        added()
    shutil.rmtree(prepared)
    assert RUNNER.invoke(app, ["data", "prepare", "-w", "pets", "--images", "azureml:pets:1"]).exit_code == 0
    assert added()["base"] == str(prepared), "the split that it was given"
    shutil.rmtree(prepared)
    with pytest.raises(DataError, match=r"no data asset 'other' is registered"):
        added("--name", "other")


def test_what_is_printed_for_people(keep: Keep) -> None:
    keep(encoded(picture(100)), "cat")
    keep(encoded(picture(101)), None)
    keep(encoded(picture(2)), "cat")
    done = RUNNER.invoke(app, ["data", "add-labels", "corrections", "-w", "pets"])
    assert "registered: azureml:pets:1, which has 1 image more than " in done.output
    assert "  -> mlops run --workload pets --images azureml:pets:1" in done.output
    assert "not added, in-test: 1 image\nnot added, none-of-these: 1 image\n" in done.output
    assert (
        f"warning: correction-{corrected(encoded(picture(101))).sha256[:16]}.png: it is none of the classes"
        in done.output
    )
    again = RUNNER.invoke(app, ["data", "add-labels", "corrections", "-w", "pets"])
    assert again.output.endswith("nothing new: azureml:pets:1 is unchanged\n")
