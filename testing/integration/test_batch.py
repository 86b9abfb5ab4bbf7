"""``mlops batch score``: rows, order, interruptions, bad images, workers that die, refusals, and storage."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from testing.support.blob_containers import QUICK, Container
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS

from vision_mlops.batch import batch_scoring
from vision_mlops.batch import blob_images as batch_container
from vision_mlops.batch.image_sources import FetchedImage, Folder, ListedImage
from vision_mlops.batch.prediction_rows import Failed, Scored, score_images
from vision_mlops.batch.scoring_pool import scored
from vision_mlops.batch.scoring_service import ScoringService
from vision_mlops.core.errors import DataError, MissingExtraError, MlopsError
from vision_mlops.core.hashing import file_hash
from vision_mlops.model.bundle import read_bundle, write_bundle
from vision_mlops.model.predictor import Predictor, load_predictor

ONE = batch_scoring.BatchOptions(workers=1)
TWO = batch_scoring.BatchOptions(workers=2, batch_size=3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("batch") / "bundle")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("other") / "bundle", swap=True)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images that no test changes, with a text beside them and a hidden file."""
    folder = make_images(tmp_path_factory.mktemp("common") / "images", 20)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def whole(common: Path, bundle: Path) -> Path:
    """The table of these images."""
    out = common.parent / "new" / "whole.csv"
    run(common, bundle, out, ONE, name="paint", version="7")
    return out


@pytest.fixture
def images(common: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return shutil.copytree(common, tmp_path / "images")


def make_images(folder: Path, count: int, size: tuple[int, int] = (48, 40)) -> Path:
    """Coloured squares with noise in folders whose names sort otherwise as text than as paths."""
    generator = np.random.default_rng(0)
    for number in range(count):
        label = list(COLOURS)[number % 3]
        noise = generator.normal(0, 20, (size[1], size[0], 3))
        pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
        path = folder / ("a", "a b", "a-b")[number % 3] / f"{number:03d} {label}.{('png', 'JPG')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=95)
    return folder


def run(
    images: Path, bundle: Path, out: Path, options: batch_scoring.BatchOptions = ONE, **more: Any
) -> batch_scoring.BatchSummary:
    return batch_scoring.score(Folder(images), bundle, out, options=options, **more)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "vision_mlops", "batch", "score", *words]


def test_rows_are_what_the_predictor_gives_alone(common: Path, whole: Path, bundle: Path) -> None:
    rows = read(whole)
    files = sorted(
        path for path in common.rglob("*") if path.suffix.lower() in (".png", ".jpg") and path.stem[0] != "."
    )
    assert [row["image"] for row in rows] == [path.relative_to(common).as_posix() for path in files]
    predictor = load_predictor(bundle, threads=1, precision="auto")
    for row, file in zip(rows, files, strict=True):
        probabilities = predictor.score([predictor.pixels(file)]).probabilities[0]
        assert [row[f"p_{name}"] for name in predictor.classes] == [f"{value:.6f}" for value in probabilities]
        assert row["label"] == file.stem.split()[1]
        assert row["probability"] == f"{probabilities.max():.6f}"
        assert (row["model"], row["version"], row["bundle"]) == ("paint", "7", predictor.id)
        assert (row["sha256"], row["width"], row["height"]) == (file_hash(file), "48", "40")
    assert [path.name for path in whole.parent.iterdir()] == ["whole.csv"]


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_workers_or_batches(common: Path, whole: Path, bundle: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "scores.csv"
    summary = run(
        common, bundle, out, TWO, name="paint", version="7", progress=lambda done, total: seen.append((done, total))
    )
    assert out.read_bytes() == whole.read_bytes()
    assert (summary.images, summary.scored, summary.errors, summary.skipped) == (20, 20, 0, 1)
    assert summary.labels == {"blue": 7, "green": 7, "red": 6}
    assert seen == [(done, 20) for done in range(21)]


def test_parquet(common: Path, whole: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "scores.parquet"
    run(common, bundle, out)
    table = pq.read_table(out)
    rows = read(whole)
    assert table.column_names == list(rows[0])
    assert table.column("image").to_pylist() == [row["image"] for row in rows]
    assert table.column("p_red").to_pylist() == pytest.approx([float(row["p_red"]) for row in rows], abs=1e-6)
    assert table.column("width").to_pylist() == [48] * 20
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"vision-mlops\[parquet\]"):
        run(common, bundle, tmp_path / "more.parquet")
    assert not (tmp_path / "more.parquet.partial").exists()


def test_bad_images_are_listed_and_stop_nothing(images: Path, bundle: Path, tmp_path: Path) -> None:
    good = next(images.rglob("*.JPG"))
    (images / "b").mkdir()
    (images / "b" / "cut.jpg").write_bytes(good.read_bytes()[:400])
    (images / "b" / "text.png").write_text("no image")
    (images / "b" / "empty.gif").write_bytes(b"")
    (images / "b" / "link.png").symlink_to(images / "nowhere.png")
    Image.new("RGB", (2001, 1000)).save(images / "b" / "large.png")
    with (images / "b" / "sparse.tif").open("wb") as stream:
        stream.truncate(257 * 2**20)
    shutil.copyfile(good, images / "b" / os.fsdecode(b"caf\xe9.jpg"))
    out = tmp_path / "scores.csv"
    summary = run(images, bundle, out, batch_scoring.BatchOptions(workers=1, max_pixels=2_000_000))
    assert (summary.images, summary.scored, summary.errors) == (27, 21, 6)
    errors = read(tmp_path / "scores.csv.errors.csv")
    assert [(Path(row["image"]).name, row["code"]) for row in errors] == [
        ("cut.jpg", "truncated"), ("empty.gif", "empty"), ("large.png", "too_large"), ("link.png", "unreadable"),
        ("sparse.tif", "too_large"), ("text.png", "not_an_image"),
    ]  # fmt: skip
    assert all(row["image"] in row["message"] and str(tmp_path) not in row["message"] for row in errors)
    assert read(out)[-1]["image"] == "b/caf\\xe9.jpg"


@pytest.mark.parametrize("count", [40, pytest.param(3, marks=pytest.mark.slow)])
def test_a_folder_of_which_nothing_can_be_read_is_refused(bundle: Path, tmp_path: Path, count: int) -> None:
    folder = tmp_path / str(count)
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02d}.jpg").write_text("no image")
    with pytest.raises(DataError, match=rf"none of the first {min(count, 32)} .* not_an_image, \d\d.jpg"):
        run(folder, bundle, tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no images"):
        run(tmp_path / "empty", bundle, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv.partial").exists()


class _StopError(Exception):
    pass


def stop_after(count: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= count:
            raise _StopError

    return progress


@pytest.mark.slow
def test_an_interrupted_run_goes_on(
    images: Path, bundle: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is not done again, unless its file has changed; another model or option is refused."""
    (images / "cut.jpg").write_bytes(next(images.rglob("*.JPG")).read_bytes()[:400])
    whole, out = tmp_path / "whole.csv", tmp_path / "scores.csv"
    run(images, bundle, whole)
    with pytest.raises(_StopError):
        run(images, bundle, out, progress=stop_after(9))
    assert not out.exists()
    with pytest.raises(DataError, match=r"started with another bundle .*, now "):
        run(images, other, out)
    with pytest.raises(DataError, match="started with another precision 'auto', now 'f32'"):
        run(images, bundle, out, replace(ONE, precision="f32"))
    with pytest.raises(DataError, match="started with another model 'colours', now 'x'"):
        run(images, bundle, out, name="x")
    assert run(images, bundle, out, TWO).resumed >= 9
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "scores.csv.errors.csv").read_bytes() == (tmp_path / "whole.csv.errors.csv").read_bytes()
    with pytest.raises(DataError, match="already exists"):
        run(images, bundle, out)
    before = out.read_bytes()
    with pytest.raises(_StopError):
        run(images, bundle, out, replace(ONE, overwrite=True), progress=stop_after(9))
    assert out.read_bytes() == before, "what is there stays until the new one is whole"
    first, second, *_ = [images / row["image"] for row in read(out)]
    shutil.copyfile(images / read(out)[-1]["image"], first)  # changed, removed and added since
    second.unlink()
    shutil.copyfile(first, images / "a" / "new.png")
    options = replace(ONE, overwrite=True)
    assert 7 <= run(images, bundle, out, options).resumed < 20
    run(images, bundle, whole, options)
    assert out.read_bytes() == whole.read_bytes()
    (images / "cut.jpg").unlink()
    assert run(images, bundle, out, options).errors == 0
    assert not (tmp_path / "scores.csv.errors.csv").exists(), "an older list of errors would be about another table"
    out.unlink()
    with pytest.raises(_StopError):
        run(images, bundle, out, progress=stop_after(9))
    assert run(images, other, out, replace(ONE, restart=True)).resumed == 0


def test_two_at_once_and_a_broken_journal_are_refused(images: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    partial = tmp_path / "scores.csv.partial"
    partial.mkdir()
    database = sqlite3.connect(partial / "journal.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError, match="is in use"):
        run(images, bundle, out)
    database.close()
    (partial / "journal.db").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"journal\.db cannot be used"):
        run(images, bundle, out)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty images of four megapixels, which take a while; one file under many names."""
    folder = tmp_path_factory.mktemp("large")
    Image.new("RGB", (2000, 2000), COLOURS["red"]).save(folder / "00.png", compress_level=1)
    for number in range(1, 50):
        (folder / f"{number:02d}.png").hardlink_to(folder / "00.png")
    return folder


@pytest.fixture(scope="module")
def few(large: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A hundred of them, which take longer than it takes to interrupt, and their table."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(100):
        (folder / f"{number:02d}.png").hardlink_to(large / "00.png")
    run(folder, bundle, folder / "whole.csv", TWO)
    return folder, (folder / "whole.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_ctrl_c_and_kill_in_the_middle(
    few: tuple[Path, bytes], bundle: Path, tmp_path: Path, blow: signal.Signals
) -> None:
    images, expected = few
    words = [*command(str(images), "--bundle", str(bundle), "--out", str(tmp_path / "scores.csv")), "--workers", "1"]
    process = subprocess.Popen([*words, "--batch-size", "1"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not kept(tmp_path / "scores.csv.partial" / "journal.db", tmp_path / "copy.db"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, blow)  # as a terminal does it
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert not (tmp_path / "scores.csv").exists()
    if blow is signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines() == ["interrupted; the same command continues where it stopped"]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True)
    assert 0 < json.loads(done.stdout)["resumed"] < 100
    assert (tmp_path / "scores.csv").read_bytes() == expected


def kept(journal: Path, copy: Path) -> int:
    """Results that are on disk. The journal is locked, so a copy of it is read, which may be of a moment in between."""
    try:
        shutil.copyfile(journal, copy)
        database = sqlite3.connect(copy)
        try:
            return int(database.execute("SELECT count(*) FROM results").fetchone()[0])
        finally:
            database.close()
    except (OSError, sqlite3.Error):
        return 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(large: Path, bundle: Path, tmp_path: Path) -> None:
    """All images of a batch decoded at once would be 300 MB, and all of them 600 MB."""
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from vision_mlops.batch import batch_scoring\nfrom vision_mlops.batch.image_sources import Folder\n"
        "if __name__ == '__main__':\n"
        "    images, bundle, out = map(Path, sys.argv[1:])\n"
        "    options = batch_scoring.BatchOptions(batch_size=25, workers=2)\n"
        "    batch_scoring.score(Folder(images), bundle, out, options=options)\n"
        "    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "    print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    words = [sys.executable, str(script), str(large), str(bundle), str(tmp_path / "scores.csv")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    worker, parent = (int(word) / 1024 for word in done.stdout.split())
    assert worker < 350
    assert parent < 150


def readers(pipe: Path) -> list[int]:
    """Children of this process that have a named pipe open to read it."""
    found = []
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            with contextlib.suppress(OSError):  # it ends
                if any(entry.readlink() == pipe and _reads(entry) for entry in Path(f"/proc/{child}/fd").iterdir()):
                    found.append(int(child))
    return found


def _reads(entry: Path) -> bool:
    """Whether a descriptor is only for reading. A child that is just being made has a copy of ours, which is for both."""
    facts = (entry.parents[1] / "fdinfo" / entry.name).read_text()
    flags = next(line.split()[1] for line in facts.splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE == os.O_RDONLY


def killed(pipe: Path, times: int) -> threading.Thread:
    """Kills each process that opens a named pipe to read it: an image that takes its worker with it."""
    # Open for both, so that nobody waits for the other end: the next process may be there before the last one is buried.
    opened = os.open(pipe, os.O_RDWR)

    def lurk() -> None:
        victims: set[int] = set()
        while len(victims) < times:
            for child in set(readers(pipe)) - victims:
                victims.add(child)
                os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
        os.close(opened)

    thread = threading.Thread(target=lurk, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_an_image_that_takes_its_worker_with_it_is_found(images: Path, bundle: Path, tmp_path: Path, how: str) -> None:
    pipe = tmp_path / "poison.png"
    os.mkfifo(pipe)
    found = [item.listed for item in Folder(images).fetch(Folder(images).listing(), tmp_path)]
    good = list(Folder(images).fetch(found, tmp_path))
    poison = FetchedImage(ListedImage(b"poison.png", 0, ""), pipe)
    batches = [good[:3], [good[3], poison, good[4]], good[5:8], good[8:]]
    service = ScoringService(bundle, "auto", 10**6)
    thread = killed(pipe, 3) if how == "killed" else None
    results = scored(service, batches, 2, overdue=300 if thread else 1)
    outcomes = {item.listed.name: outcome for item, outcome in results}
    failed = outcomes.pop("poison.png")
    assert isinstance(failed, Failed)
    reason = "its process was ended by signal 9" if thread else "it took longer than 1 seconds"
    assert (failed.code, failed.message) == ("killed_worker", f"poison.png: {reason}")
    if thread:
        thread.join()
    assert set(outcomes) == {item.listed.name for item in good}
    assert all(isinstance(outcome, Scored) for outcome in outcomes.values())
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_killed_workers_change_nothing(images: Path, bundle: Path, tmp_path: Path) -> None:
    victims: list[int] = []

    def progress(done: int, total: int) -> None:
        if 5 < done < 15 and len(victims) < 2:
            child = multiprocessing.active_children()[0]
            victims.append(child.pid or 0)
            os.kill(victims[-1], signal.SIGKILL)

    run(images, bundle, tmp_path / "scores.csv", TWO, progress=progress)
    run(images, bundle, tmp_path / "whole.csv")
    assert victims
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_model_that_cannot_be_loaded_ends_it(images: Path, bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "golden" / "red.png").write_bytes((broken / "golden" / "blue.png").read_bytes())
    write_bundle(broken, read_bundle(bundle))
    with pytest.raises(MlopsError, match="golden example"):
        run(images, broken, tmp_path / "scores.csv")
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_container_is_scored_like_a_folder(
    images: Path, bundle: Path, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "cut.jpg").write_bytes(next(images.rglob("*.JPG")).read_bytes()[:400])
    with (images / "great.png").open("wb") as stream:  # comes in two parts
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (1300, 1300, 3), np.uint8)).save(stream, "PNG")
    for path in images.rglob("*"):
        if path.is_file():
            container.client.upload_blob(f"data/{path.relative_to(images).as_posix()}", path.read_bytes())
    monkeypatch.setattr(batch_container, "_AHEAD", 4)
    out, local = tmp_path / "scores.csv", tmp_path / "local.csv"
    most: list[int] = []

    def progress(done: int, total: int) -> None:
        most.append(len(list((tmp_path / "scores.csv.partial" / "images").glob("*"))))
        if done >= 9 and not out.with_name("local.csv").exists():
            raise _StopError

    with pytest.raises(_StopError):
        batch_scoring.score(
            batch_container.BlobImages(container.place(), QUICK), bundle, out, options=TWO, progress=progress
        )
    run(images, bundle, local)
    summary = batch_scoring.score(
        batch_container.BlobImages(container.place(), QUICK), bundle, out, options=TWO, progress=progress
    )
    assert (summary.images, summary.errors, summary.skipped) == (22, 1, 1)
    assert 9 <= summary.resumed < 22
    assert max(most) <= 4 + 2 * 2 * 3 + 1
    # Storage sorts whole names, a folder sorts the parts of paths.
    assert sorted(out.read_text().splitlines()) == sorted(local.read_text().splitlines())
    assert read(tmp_path / "scores.csv.errors.csv") == read(tmp_path / "local.csv.errors.csv")
    gone = batch_container.BlobImages(container.place(), QUICK)
    first, second, *_ = gone.listing()
    container.client.delete_blob(f"data/{first.name}")
    container.client.upload_blob(f"data/{second.name}", b"changed", overwrite=True)
    missing, changed = gone.fetch([first, second], tmp_path)
    assert missing.failed == Failed("unreadable", f"{first.name}: it was removed in storage in the meantime; run again")
    assert changed.failed is None
    assert changed.path.read_bytes() == b"changed"
    gone.close()


def test_the_command(images: Path, bundle: Path, tmp_path: Path, mlops: Callable[..., tuple[int, str, str]]) -> None:
    (images / "text.png").write_text("no image")
    out = tmp_path / "scores.csv"
    words = ("--bundle", bundle, "--out", out, "--workers", "1", "--fail-on-error", "--json")
    code, printed, said = mlops("batch", "score", images, *words)
    assert code == 1
    summary = json.loads(printed)
    assert (summary["images"], summary["errors"], summary["errors_file"]) == (21, 1, f"{out}.errors.csv")
    assert summary["model"] == {"name": "colours", "version": "", "id": read(out)[0]["bundle"]}
    assert said == (
        f"warning: 1 of 21 images could not be scored; see {out}.errors.csv\n"
        "warning: 1 file skipped: notes.txt: is not an image\n"
    )
    assert (summary["skipped"], summary["skipped_files"]) == (1, ["notes.txt: is not an image"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param([], "--out is missing", id="out"),
        pytest.param(["--out", "a.csv"], "no model is given, or two", id="model"),
        pytest.param(["--out", "a.csv", "--model", "a", "--bundle", "b"], "no model is given, or two", id="two-models"),
        pytest.param(["--out", "a.txt", "--bundle", "b"], "unknown format", id="suffix"),
        pytest.param(["--out", "a.csv", "--bundle", "none"], "none does not exist", id="bundle"),
        pytest.param(
            ["--out", "a.csv", "--bundle", "b", "--precision", "x"], "'x' is not one of 'auto'", id="precision"
        ),
        pytest.param(["--out", "a.csv", "--bundle", "b", "--endpoint", "e"], "use --on azure", id="endpoint"),
        pytest.param(["--out", "a.jsonl", "--on", "azure"], "--on azure needs --endpoint and --out", id="no-endpoint"),
        pytest.param(
            ["--on", "azure", "--workers", "2"], "--workers cannot be used with --on azure", id="azure-options"
        ),
    ],
)
def test_mistakes(
    images: Path, words: list[str], expected: str, mlops: Callable[..., tuple[int, str, str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, _, said = mlops("batch", "score", images, *words)
    assert (code, expected in said) == (2, True), said
    assert [path.name for path in tmp_path.iterdir() if path.name != "images"] == []


@pytest.mark.slow
def test_a_registered_model(
    images: Path, bundle: Path, store: Path, tmp_path: Path, mlops: Callable[..., tuple[int, str, str]]
) -> None:
    from vision_mlops.registry import open_registry

    open_registry().register(bundle, "paint", aliases=["champion"])
    out = tmp_path / "scores.csv"
    code, _, said = mlops("batch", "score", images, "--model", "paint@champion", "--out", out, "--workers", "1")
    assert code == 0, said
    assert "20 images, 0 errors, 1 other file skipped: " in said
    assert "  red: 6\n" in said
    assert {(row["model"], row["version"]) for row in read(out)} == {("paint", "1")}


def test_outcomes_agree_with_the_predictor_in_f32(images: Path, bundle: Path) -> None:
    files = sorted(images.rglob("[!.]*.png"))
    predictor = Predictor(bundle)
    outcomes = score_images(predictor, [(file.name, file) for file in files])
    for expected, outcome in zip(predictor.score_files(files), outcomes, strict=True):
        assert isinstance(outcome, Scored)
        assert outcome.probabilities.tolist() == expected.tolist()
