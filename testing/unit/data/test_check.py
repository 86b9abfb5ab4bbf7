"""Checking a dataset: known problems are found, the clean rest is not flagged, and files move and come back."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.planted_faults import CLASSES, Planted, make_clean, photo, plant, save
from testing.support.prepared_data import make_prepared
from typer.testing import CliRunner

from vision_mlops.cli.main import app
from vision_mlops.core.errors import DataError, Severity
from vision_mlops.data.check import check_report, duplicates, label_errors, quarantine
from vision_mlops.data.check.dataset_check import CheckResult, CheckSettings, check
from vision_mlops.data.check.dataset_findings import KINDS, by_kind
from vision_mlops.data.check.feature_rows import RowFile
from vision_mlops.data.check.file_listing import list_images
from vision_mlops.images.decoding import open_reduced
from vision_mlops.images.perceptual_hash import HASH_DISTANCE, same_picture
from vision_mlops.images.resizing import Pixels, ResizeMode

Row = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
RUNNER = CliRunner()
STRUCTURAL = {"empty-class", "skipped", "label-error"}


class Colours:
    """Features for tests: mean and spread of the colours in four quarters."""

    size = 32
    resize: ResizeMode = "squash"
    width = 24

    def __call__(self, pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        parts = pixels.reshape(len(pixels), 2, 16, 2, 16, 3).astype(np.float32)
        return np.concatenate([parts.mean((2, 4)), parts.std((2, 4))], -1).reshape(len(pixels), -1)


def run(folder: Path, scratch: Path, *, embed: bool = False, image_size: int = 128) -> CheckResult:
    settings = CheckSettings(image_size=image_size, no_labels="" if embed else "not wanted")
    return check("test", list_images(folder), scratch, settings=settings, embedder=Colours() if embed else None)


def paths_of(result: CheckResult) -> dict[str, set[str]]:
    kinds = by_kind(result.findings)
    return {kind: {file.path for item in found for file in item.files} for kind, found in kinds.items()}


def tree(folder: Path) -> dict[bytes, bytes]:
    """Content of each file below a folder, by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {os.fsencode(path.relative_to(folder)): path.read_bytes() for path in files}


def invoke(*words: object) -> tuple[int, str, str]:
    done = RUNNER.invoke(app, ["data", "check", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def planted_once(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(make_clean(tmp_path_factory.mktemp("planted") / "photos", 20, splits=("train", "test")))


@pytest.fixture
def planted(planted_once: Planted, tmp_path: Path) -> Planted:
    """A copy that a test may change."""
    shutil.copytree(planted_once.root, tmp_path / "photos")
    return Planted(tmp_path / "photos", planted_once.expected)


@pytest.mark.slow
def test_every_planted_problem_is_found_and_nothing_else(planted_once: Planted, tmp_path: Path) -> None:
    found = paths_of(run(planted_once.root, tmp_path))
    assert {kind: paths for kind, paths in found.items() if kind not in STRUCTURAL} == planted_once.expected


def test_messages_name_the_file_and_how_bad_it_is(planted_once: Planted, tmp_path: Path) -> None:
    result = run(planted_once.root, tmp_path)
    messages = {finding.message: finding.level for finding in result.findings}
    assert messages["test/circle/leaked.jpg and train/circle/003.jpg: the same file in 'train' and 'test'"] == "error"
    nearly = "test/circle/leaked nearly.jpg and train/circle/004.jpg: nearly the same picture in 'train' and 'test'"
    assert messages[nearly] == "warning"
    assert messages["train/circle/empty.jpg: the file is empty (0 bytes)"] == "error"
    assert "class folder 'nothing' has no images" in messages
    assert all(KINDS[finding.kind].remedy for finding in result.findings)


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_truncated_photo_is_found_although_it_is_decoded_at_reduced_scale(
    tmp_path: Path, cut: float, options: dict[str, object]
) -> None:
    folder = make_clean(tmp_path / "photos", 1)
    path = save(photo(1, size=(800, 600)), folder / "circle" / "large.jpg", **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    assert paths_of(run(folder, tmp_path))["corrupt"] == {"circle/large.jpg"}


def test_textile_is_not_flooded_with_near_duplicates(tmp_path: Path) -> None:
    """2,000 pictures of one fabric look alike to a person; a hash that takes them for copies is of no use."""
    from vision_mlops.data.sources import bundled_folder

    folder = tmp_path / "textile"
    for path in sorted(bundled_folder().rglob("*.jpg"))[::10]:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    result = run(folder, tmp_path, image_size=250)
    assert len(result.listing.entries) == 200
    assert {finding.kind for finding in result.findings} == {"skipped"}


def test_products_on_white_are_told_apart_and_their_copies_found(tmp_path: Path) -> None:
    """Alike in all but shape and colour: the hash alone takes them for copies, the signature does not."""
    from PIL import ImageDraw

    generator = np.random.default_rng(0)
    for number in range(60):
        image = Image.new("RGB", (300, 220), (250, 250, 250))
        x, y = 60 + generator.normal(0, 9), 42 + generator.normal(0, 9)
        colour = tuple(int(value) for value in generator.integers(50, 200, 3))
        ImageDraw.Draw(image).ellipse((150 - x, 110 - y, 150 + x, 110 + y), fill=colour)
        save(image, tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.jpg")
    save(image, tmp_path / "photos" / "b" / "copy.jpg", quality=40)
    result = run(tmp_path / "photos", tmp_path)
    assert paths_of(result)["near-duplicate"] == {"b/59.jpg", "b/copy.jpg"}
    hashes = np.array([look.phash for look in result.looks], np.uint64)
    candidates = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= HASH_DISTANCE
    assert np.triu(candidates, 1).sum() > 20, "the test has to be one that the hash alone fails"


@pytest.mark.slow
def test_five_hundred_equal_images_are_one_group_and_a_small_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = save(Image.new("RGB", (64, 48), (255, 255, 255)), tmp_path / "photos" / "a" / "0.png").read_bytes()
    other = save(photo(0, size=(320, 240)), tmp_path / "photos" / "b" / "0.jpg").read_bytes()
    for number in range(1, 500):
        (tmp_path / "photos" / "a" / f"{number}.png").write_bytes(one)
        # Bytes after the end of a JPEG are not part of the picture: files that differ and look the same.
        (tmp_path / "photos" / "b" / f"{number}.jpg").write_bytes(other + str(number).encode())
    compared = []

    def counting(own: Row, others: Row) -> object:
        compared.append(len(others))
        return same_picture(own, others)

    monkeypatch.setattr(duplicates, "same_picture", counting)
    result = run(tmp_path / "photos", tmp_path)
    page = check_report.render(result)
    assert sum(compared) == 499, "one is compared with each of the others, and no two of those"
    kinds = by_kind(result.findings)
    assert [len(finding.files) for finding in kinds["exact-duplicate"]] == [500]
    assert [len(finding.files) for finding in kinds["near-duplicate"]] == [500]
    assert len(kinds["blank"]) == 500
    assert len(page) < 1_000_000
    assert "and 494 more copies" in page


def test_a_dark_or_small_folder_is_meant_to_be_so(tmp_path: Path) -> None:
    """X-rays are dark and CIFAR is small: what all images share is one finding, or none."""
    for number in range(60):
        image = photo(number, size=(32, 32)).point(lambda value: value // 6)
        save(image, tmp_path / "photos" / "ab"[number % 2] / f"{number}.png")
    kinds = by_kind(run(tmp_path / "photos", tmp_path).findings)
    assert len(kinds["too-small"]) == 1
    assert len(kinds["too-small"][0].files) == 60
    assert sum(len(found) for kind, found in kinds.items() if kind in ("dark", "blurred", "low-contrast")) <= 3


def test_balance(tmp_path: Path) -> None:
    counts = {("train", "a"): 60, ("train", "b"): 2, ("test", "a"): 3, ("val", "a"): 2, ("val", "b"): 2}
    seed = 0
    for (split, label), count in counts.items():
        for _ in range(count):
            seed += 1
            save(photo(seed, size=(48, 36)), tmp_path / "photos" / split / label / f"{seed}.png")
    messages = [f"{f.level}: {f.message}" for f in run(tmp_path / "photos", tmp_path, image_size=32).findings]
    assert "error: class 'b' has no readable image in test" in messages
    assert "warning: class 'b' has 4 readable images, fewer than 5" in messages
    assert "warning: class 'a' has 16 times the images of 'b' (65 and 4)" in messages


@pytest.mark.slow
def test_flipped_labels_are_ranked_first(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    flipped = set()
    for number in range(240):
        label = ("night", "noon")[number % 2]
        image = photo(number, size=(64, 64)).point(lambda value, noon=number % 2: value // 3 + 110 * noon)
        given = label
        if number % 20 == 7:
            given = "night"
            flipped.add(f"night/{number:03d}.jpg")
        save(image, folder / given / f"{number:03d}.jpg")
    result = run(folder, tmp_path, embed=True, image_size=64)
    doubts = [finding for finding in result.findings if finding.kind == "label-error"]
    assert {finding.files[0].path for finding in doubts[: len(flipped)]} == flipped
    assert len(doubts) <= len(flipped) + 2
    assert doubts[0].details["suggested"] == "noon"
    assert result.labels.checked == 240
    assert result.labels.accuracy is not None
    assert 0.9 < result.labels.accuracy < 0.97


def test_copies_share_a_fold_and_classes_are_spread() -> None:
    generator = np.random.default_rng(1)
    given = generator.integers(0, 4, 500)
    groups = np.arange(500)
    groups[100:120] = 100
    contents = [generator.bytes(32) for _ in range(500)]
    folds = label_errors.assign_folds(contents, given, groups)
    assert len(set(folds[100:120])) == 1
    counts = np.array([np.bincount(folds[given == label], minlength=label_errors.FOLDS) for label in range(4)])
    assert counts.min() >= 15
    order = generator.permutation(500)
    again = label_errors.assign_folds([contents[i] for i in order], given[order], groups[order])
    assert (again == folds[order]).all(), "folds depend on content, not on the order of the files"


def test_cross_validated_probabilities_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """The sums over folds give the discriminant that scikit-learn gets from all features at once."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    generator = np.random.default_rng(2)
    given = generator.integers(0, 3, 300)
    values = (generator.normal(0, 1, (300, 12)) + given[:, None] * generator.uniform(0, 1, 12)).astype(np.float16)
    folds = generator.integers(0, label_errors.FOLDS, 300)
    rows = np.arange(300)
    with RowFile(tmp_path, 12, np.float16) as features:
        features.write(0, values)
        ours = label_errors.cross_validated(features, rows, given, folds, 3, tmp_path)
    scaled = values.astype(float)
    scaled = (scaled - scaled.mean(0)) / scaled.std(0)
    for fold in range(label_errors.FOLDS):
        other = folds != fold
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0).fit(scaled[other], given[other])
        agreement = (model.predict(scaled[~other]) == ours[~other].argmax(1)).mean()
        assert agreement > 0.93
    assert np.allclose(ours.sum(1), 1, atol=1e-5)


def test_few_images_are_no_ground_for_judging_labels(tmp_path: Path) -> None:
    result = run(make_clean(tmp_path / "photos", 4), tmp_path, embed=True)
    assert result.labels.skipped == "fewer than two classes have 10 readable images"
    assert "labels were not checked" in next(f for f in result.findings if f.kind == "skipped").message


def test_a_bundle_gives_the_features_that_its_head_sees(tmp_path: Path) -> None:
    """Of the tiny bundle, whose head sees mean colours, the features are mean colours."""
    from vision_mlops.model import embedding

    network = embedding.from_bundle(make_bundle(tmp_path / "bundle"))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    assert (network.size, network.resize, network.width) == (32, "squash", 3)
    assert np.allclose(network(pixels), pixels.mean((1, 2)) / 255, atol=1e-3)


@pytest.mark.slow
def test_the_first_calls_of_a_process_may_come_from_several_threads(tmp_path: Path) -> None:
    """OpenVINO's binding blocks for ever, in most such processes, where nothing was computed before the threads start."""
    make_bundle(tmp_path / "bundle")
    code = """if True:
        import sys, threading
        from pathlib import Path
        import numpy as np
        from vision_mlops.model import embedding
        sys.setswitchinterval(1e-6)
        network, start = embedding.from_bundle(Path(sys.argv[1])), threading.Barrier(8)
        def call():
            start.wait()
            network(np.zeros((4, 32, 32, 3), np.uint8))
        threads = [threading.Thread(target=call) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "bundle")], check=True, timeout=60)


@pytest.mark.slow
def test_labels_judged_with_a_bundle_need_no_torch(tmp_path: Path) -> None:
    make_prepared(tmp_path / "prepared", train=30)
    folder = tmp_path / "photos"
    (tmp_path / "prepared" / "train").rename(folder)
    (folder / "blue" / "003.png").rename(folder / "red" / "wrong.png")
    make_bundle(tmp_path / "bundle")
    code = "import atexit, sys\natexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
    code += "from vision_mlops.cli.main import main\nmain()"
    words = ["data", "check", folder, "--bundle", tmp_path / "bundle", "--json", "--out", tmp_path / "out"]
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False", "torch was loaded"
    (doubt,) = [item for item in json.loads(done.stdout)["findings"] if item["kind"] == "label-error"]
    assert doubt["files"] == [{"path": "red/wrong.png", "class": "red"}]
    assert doubt["details"]["suggested"] == "blue"


def test_without_the_extra_labels_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder = make_clean(tmp_path / "photos", 10)
    code = "import sys\nfrom vision_mlops.cli.main import main\nsys.modules['cleanlab'] = None\nmain()"
    words = ["data", "check", str(folder), "--json", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    skipped = json.loads(done.stdout)["labels"]["skipped"]
    assert "'cleanlab', which is not installed" in skipped
    assert "pip install 'vision-mlops[train]'" in skipped


def test_sizes_are_those_of_the_upright_original(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    data = save(photo(1, size=(800, 600)), tmp_path / "turned.jpg", exif=exif).read_bytes()
    image, size = open_reduced(data, 160)
    assert size == (600, 800)
    assert image.size == (300, 400) == tuple(edge // 2 for edge in size)


class _Page(HTMLParser):
    """Collects what a page refers to, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_escapes_names(planted_once: Planted, tmp_path: Path) -> None:
    result = run(planted_once.root, tmp_path)
    page = check_report.write(result, tmp_path / "out").read_text(encoding="utf-8")
    parsed = _Page()
    parsed.feed(page)
    assert parsed.sources
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in parsed.sources)
    assert "script" not in parsed.tags
    assert "plain &lt;b&gt;&amp;" in page
    assert "plain <b>" not in page
    assert "caf\\xe9 &lt;b&gt;.jpg" in page
    first = next(source for source in parsed.sources if source.startswith("data:"))
    assert base64.b64decode(first.split(",")[1])[:2] == b"\xff\xd8"
    content = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert content["severities"]["error"] == sum(f.level is Severity.ERROR for f in result.findings)
    assert content["counts"]["circle"]["test"] == 22
    assert len(content["findings"]) == len(result.findings)


@pytest.mark.slow
@pytest.mark.parametrize(("fail_on", "code"), [("error", 1), ("never", 0)])
def test_exit_code_by_severity(planted_once: Planted, tmp_path: Path, fail_on: str, code: int) -> None:
    done, output, _ = invoke(
        planted_once.root, "--no-labels", "--fail-on", fail_on, "--out", tmp_path / "out", "--json"
    )
    assert done == code
    assert json.loads(output)["images"] > 100


@pytest.mark.slow
def test_notes_alone_fail_only_where_they_shall(tmp_path: Path, home: Path) -> None:
    folder = make_clean(tmp_path / "photos", 6)
    save(photo(900).point(lambda value: value // 5), folder / "circle" / "dark.jpg")
    codes = {}
    for level in ("error", "warning", "note", "never"):
        words = (folder, "-w", "textile", "--no-labels", "--fail-on", level)
        codes[level] = invoke(*words, "--out", tmp_path / "out")[0]
    assert codes == {"error": 0, "warning": 0, "note": 1, "never": 0}
    assert invoke(folder, "--no-labels")[0] == 0
    assert (home / "checks" / "photos" / "report.json").is_file()


def test_prepared_folders_are_held_against_their_manifest(tmp_path: Path) -> None:
    make_prepared(tmp_path / "data", train=12)
    assert invoke(tmp_path / "data", "--no-labels", "--out", tmp_path / "out")[0] == 0
    (tmp_path / "data/train/blue/000.png").unlink()
    save(photo(1, size=(40, 40)), tmp_path / "data/train/red/001.png")
    save(photo(2, size=(40, 40)), tmp_path / "data/train/red/new.png")
    found = paths_of(run(tmp_path / "data", tmp_path, image_size=32))
    assert found["missing-file"] == {"train/blue/000.png"}
    assert found["changed-file"] == {"train/red/001.png"}
    assert found["not-listed"] == {"train/red/new.png"}
    with pytest.raises(DataError, match=r"prepared data.*\n.*fix the source"):
        invoke(tmp_path / "data", "--no-labels", "--fix", "blank")


@pytest.mark.slow
def test_fix_and_undo(planted: Planted, tmp_path: Path) -> None:
    before = tree(planted.root)
    kinds = "corrupt,not-an-image,exact-duplicate,near-duplicate,leak,conflict,dark,blank"
    words = (planted.root, "--no-labels", "--out", tmp_path / "out", "--fix", kinds)
    _, _, said = invoke(*words, "--dry-run")
    assert "nothing was changed" in said
    assert tree(planted.root) == before
    assert not (tmp_path / "photos.quarantine").exists()
    assert invoke(*words)[0] == 0, "what is left are no errors"
    place = tmp_path / "photos.quarantine"
    moved = tree(place)
    journal = json.loads(moved.pop(b"moves.json"))
    left = tree(planted.root)
    assert left | {os.fsencode(m["from"]): moved[os.fsencode(m["to"])] for m in journal["moves"]} == before
    gone = {os.fsencode(move["from"]).decode("utf-8", "backslashreplace") for move in journal["moves"]}
    assert "train/circle/003.jpg" in gone, "of a leak, the copy in test is kept"
    assert "test/circle/leaked.jpg" not in gone
    assert {"train/circle/005.jpg", "train/stripes/conflict.jpg"} <= gone, "of a conflict, nobody knows which is right"
    assert len(gone & planted.expected["exact-duplicate"]) == 1
    assert len(gone & planted.expected["near-duplicate"]) == 3
    code, output, _ = invoke(*words, "--json")
    assert code == 0
    assert json.loads(output)["moves"] == [], "the second time there is nothing to move"
    assert invoke("--undo", place)[0] == 0
    assert tree(planted.root) == before
    assert not place.exists()


def test_fix_is_cut_off_half_way_and_undone(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(planted.root)
    count = 0

    def interrupted(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == 3:  # between the two names of a file
            os.link(source, target)
            raise KeyboardInterrupt
        move_file(source, target)

    move_file = quarantine.move_file
    listing = list_images(planted.root)
    place = quarantine.check_target(listing, tmp_path / "held")
    moves = quarantine.plan(listing, run(planted.root, tmp_path).findings, ["leak", "corrupt", "conflict"], place)
    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "move_file", interrupted)
        for item in moves[:4]:
            (place / item.target).parent.mkdir(parents=True, exist_ok=True)
        with pytest.raises(KeyboardInterrupt):
            quarantine.move(planted.root, place, moves)
    undone = quarantine.undo(place)
    assert len(undone.restored) == 3
    assert not undone.problems
    assert tree(planted.root) == before


@pytest.mark.slow
def test_undo_never_overwrites(planted: Planted, tmp_path: Path) -> None:
    place = tmp_path / "held"
    invoke(planted.root, "--no-labels", "--out", tmp_path / "out", "--fix", "blank", "--to", place)
    origin = planted.root / "train" / CLASSES[1] / "blank.jpg"
    origin.write_bytes(b"another")
    code, _, said = invoke("--undo", place)
    assert code == 1
    assert "another file is in its place now" in said
    assert origin.read_bytes() == b"another"
    origin.unlink()
    assert invoke("--undo", place)[0] == 0
    assert origin.stat().st_size > 100


def test_another_file_system_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no second name can be given, a copy takes its place, whole or not at all."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a").write_bytes(b"content")
    quarantine.move_file(tmp_path / "a", tmp_path / "there" / "a")
    assert (tmp_path / "there" / "a").read_bytes() == b"content"
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        quarantine.move_file(tmp_path / "a", tmp_path / "there" / "a")
    quarantine.move_file(tmp_path / "a", tmp_path / "there" / "b")
    assert (tmp_path / "there" / "b").readlink() == Path("nowhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to check"),
        (("nowhere",), "nowhere does not exist"),
        (("PHOTOS", "--out", "PHOTOS/out"), "overlaps the images"),
        (("PHOTOS", "--out", "FULL/mine.txt/out"), "mine.txt is a file"),
        (("PHOTOS", "--out", "FULL"), "contains more than a report"),
        (("PHOTOS", "--fix", "fun"), "is not a kind of finding"),
        (("PHOTOS", "--fix", "imbalance"), "cannot be fixed by moving files"),
        (("PHOTOS", "--fix", ","), "names no kind"),
        (("PHOTOS", "--fix", "dark", "--to", "PHOTOS/held"), "overlaps the images"),
        (("PHOTOS", "--fix", "dark", "--to", "FULL"), "is not a quarantine folder"),
        (("PHOTOS", "--fix", "label-error", "--no-labels"), "needs the check that --no-labels"),
        (("PHOTOS", "--dry-run"), "need --fix"),
        (("--undo", "FULL"), "has no moves.json"),
        (("PHOTOS", "--undo", "FULL"), "--undo excludes FOLDER and --fix"),
        (("PHOTOS", "--bundle", "FULL"), "is not a model bundle"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    folder = make_clean(tmp_path / "photos", 10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    places = {"PHOTOS": str(folder), "FULL": str(tmp_path / "full")}
    filled = [re.sub("PHOTOS|FULL", lambda match: places[match[0]], word) for word in words]
    with pytest.raises(Exception, match=message):
        invoke(*filled)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_journal_that_points_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    moves = [{"from": "../../escape", "to": "a"}]
    (tmp_path / "held" / "moves.json").write_text(json.dumps({"folder": str(tmp_path), "moves": moves}))
    with pytest.raises(DataError, match="points outside"):
        quarantine.undo(tmp_path / "held")


SLOWLY = """
import os, time
from vision_mlops.cli.main import main
from vision_mlops.data.check import image_scan

read = image_scan._read

def slowly(*given):
    print("looking", flush=True)
    time.sleep(0.05)
    return read(*given)

image_scan._read = slowly
os.cpu_count = lambda: 2
main()
"""


@pytest.mark.slow
def test_interrupting_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    one = save(photo(1, size=(200, 150)), folder / "a" / "0.png")
    for number in range(1, 1000):
        (folder / "a" / f"{number}.png").hardlink_to(one)
    words = ["data", "check", str(folder), "--no-labels", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("looking")  # two threads print, at times into one line
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert output.count("looking") < 500, "it went on with the others"
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.slow
def test_the_pretrained_network_judges_labels(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user runs it: the backbone is converted once, and flipped labels come first."""
    folder = make_clean(tmp_path / "photos", 25)
    wrong = set()
    for number in (3, 11, 17):
        (folder / "circle" / f"{number:03d}.jpg").rename(folder / "stripes" / f"wrong {number}.jpg")
        wrong.add(f"stripes/wrong {number}.jpg")
    words = ("--out", tmp_path / "out", "--json")
    _, output, _ = invoke(folder, *words)
    found = json.loads(output)
    doubts = [item["files"][0]["path"] for item in found["findings"] if item["kind"] == "label-error"]
    assert wrong <= set(doubts[:6])
    assert found["labels"]["checked"] == 75
    (graph,) = (home / "cache" / "embeddings").iterdir()
    written = graph.stat().st_mtime_ns
    monkeypatch.setitem(sys.modules, "torch", None)  # the conversion alone needs it
    invoke(folder, *words)
    assert graph.stat().st_mtime_ns == written
