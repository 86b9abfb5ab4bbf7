"""Corrections in a folder: each once, with its image as it came, whatever is sent twice, at once, or killed in between."""

from __future__ import annotations

import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from testing.support.corrections import NOON, corrected
from testing.support.user_rights import as_nobody, open_folder

from vision_mlops.core.errors import ConfigError, CorrectionsFullError, DataError
from vision_mlops.flask_app.corrections.correction_store import open_store
from vision_mlops.flask_app.corrections.folder_store import FolderStore

MANY = 100_000_000


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "corrections ?#%"


@pytest.fixture
def store(folder: Path) -> FolderStore:
    return FolderStore(folder, MANY)


def test_all_of_a_correction_is_kept(store: FolderStore, folder: Path) -> None:
    image = b"\x89PNG not decoded here"
    one, none = corrected(image), corrected(b"other", None, suffix=".jpg", at=NOON + timedelta(hours=1))
    store.add(none, b"other")
    store.add(one, image)
    assert list(open_store(str(folder)).list()) == [one, none]
    assert (one.label, one.predicted, one.model_version, one.who) == ("cat", "dog", "3", "ann")
    assert (none.label, one.at) == (None, "2026-03-01T12:00:00.000000+00:00")
    assert one.sha256 == hashlib.sha256(image).hexdigest()
    assert store.image(one) == image
    assert files(folder) == {"corrections.db", f"images/{one.sha256}.png", f"images/{none.sha256}.jpg"}
    assert store.size_bytes() == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_opening_makes_nothing(store: FolderStore, folder: Path) -> None:
    assert store.size_bytes() == 0
    with pytest.raises(DataError, match=r"has no corrections: it has no corrections\.db"):
        list(store.list())
    assert not folder.parent.exists()


def test_the_same_statement_is_kept_once_with_its_later_time(store: FolderStore) -> None:
    first, again = corrected(b"i"), corrected(b"i", at=NOON + timedelta(minutes=5))
    assert first.id == again.id
    for correction in (again, first, again):
        store.add(correction, b"i")
    assert list(store.list()) == [again]


@pytest.mark.parametrize(
    "changes", [{"label": "cow"}, {"label": None}, {"who": "bob"}, {"request_id": "r-2"}, {"model_id": "b"}]
)
def test_another_statement_about_the_same_image_is_another_correction(
    store: FolderStore, folder: Path, changes: dict[str, Any]
) -> None:
    for correction in (corrected(b"i"), corrected(b"i", **changes)):
        store.add(correction, b"i")
    assert len(list(store.list())) == 2
    assert len(files(folder)) == 2, "the image is kept once"


def test_the_limit_refuses_and_keeps_nothing(folder: Path) -> None:
    store = FolderStore(folder, 50_000)
    store.add(corrected(b"a" * 10_000), b"a" * 10_000)
    before, size = files(folder), store.size_bytes()
    with pytest.raises(CorrectionsFullError, match=r"its limit of 50,000\n  -> .*MLOPS_APP_CORRECTIONS_LIMIT_MB"):
        store.add(corrected(b"b" * 40_000), b"b" * 40_000)
    assert (files(folder), store.size_bytes()) == (before, size)
    store.add(corrected(b"a" * 10_000, "cow"), b"a" * 10_000)  # its image takes no more room
    assert len(list(store.list())) == 2
    with pytest.raises(CorrectionsFullError):
        open_store(str(folder)).add(corrected(b"c"), b"c")


def test_an_image_must_be_the_one_that_was_corrected(store: FolderStore, folder: Path) -> None:
    with pytest.raises(ValueError, match="is not that of correction"):
        store.add(corrected(b"one"), b"another")
    assert not folder.exists()


@pytest.mark.parametrize(
    "changes",
    [{"suffix": "/../../x"}, {"suffix": ""}, {"suffix": ".PNG"}, {"sha256": "../" * 22}, {"id": "a/b"}, {"id": ""},
     {"at": "2026-03-01T12:00:00"}, {"at": "yesterday"}],
)  # fmt: skip
def test_what_would_lead_out_of_the_folder_is_no_correction(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"file name|time zone|isoformat"):
        replace(corrected(b"i"), **changes)


def test_a_label_is_no_part_of_a_path(store: FolderStore, folder: Path) -> None:
    correction = corrected(b"i", "../../etc", who="'; DROP TABLE corrections; --")
    store.add(correction, b"i")
    assert list(store.list()) == [correction]
    assert files(folder.parents[1]) == {
        f"kept/{folder.name}/{name}" for name in ("corrections.db", f"images/{correction.image_name}")
    }


def test_a_changed_or_missing_image_is_named(store: FolderStore, folder: Path) -> None:
    correction = corrected(b"i")
    store.add(correction, b"i")
    file = folder / "images" / correction.image_name
    file.write_bytes(b"j")
    with pytest.raises(DataError, match="was changed after it was received"):
        store.image(correction)
    file.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        store.image(correction)
    store.add(corrected(b"i", "cow"), b"i")
    assert store.image(correction) == b"i", "another correction of it brings it back"


def test_what_a_killed_process_left_is_removed_by_the_next_one(store: FolderStore, folder: Path) -> None:
    kept = corrected(b"i")
    store.add(kept, b"i")
    orphan, half = folder / "images" / f"{'0' * 64}.png", folder / "images" / f".{'1' * 64}.png.abcd"
    orphan.write_bytes(b"whole, but its row was never written")
    half.write_bytes(b"ha")
    (folder / "images" / "of somebody").mkdir()
    assert list(store.list()) == [kept]
    FolderStore(folder, MANY).add(corrected(b"k"), b"k")
    assert not orphan.exists()
    assert not half.exists()
    assert store.image(kept) == b"i"


REFUSED = r"corrections cannot be read or written: .*\n  -> check its permissions"


@pytest.mark.parametrize("what", ["no database", "a file"])
def test_a_place_that_cannot_be_used_is_named(store: FolderStore, folder: Path, what: str) -> None:
    folder.parent.mkdir()
    if what == "a file":
        folder.write_bytes(b"")
    else:
        folder.mkdir()
        (folder / "corrections.db").write_bytes(b"something else that is long enough to be looked at" * 100)
    with pytest.raises(DataError, match=REFUSED):
        store.add(corrected(b"i"), b"i")


def test_a_place_that_can_never_be_used_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for location in (file, file / "corrections"):
        with pytest.raises(ConfigError, match=r"'.*notes\.txt' is not a writable folder"):
            open_store(str(location), MANY)
    with open_folder() as place:
        place.chmod(0o555)
        with as_nobody(), pytest.raises(ConfigError, match="is not a writable folder"):
            open_store(str(place / "kept"), MANY)
        place.chmod(0o755)
    assert file.read_text() == "mine"
    with pytest.raises(ConfigError, match="no location of corrections is given"):
        open_store("")


def test_a_folder_without_the_right_to_write_is_named() -> None:
    with open_folder() as place:
        FolderStore(place / "kept", MANY).add(corrected(b"i"), b"i")
        (place / "kept").chmod(0o555)
        (place / "kept" / "corrections.db").chmod(0o444)
        with as_nobody():
            store = FolderStore(place / "kept", MANY)
            assert [store.image(correction) for correction in store.list()] == [b"i"], "reading needs no other right"
            for folder in (place / "kept", place / "kept" / "deeper"):
                with pytest.raises(DataError, match=REFUSED):
                    FolderStore(folder, MANY).add(corrected(b"k"), b"k")
        (place / "kept").chmod(0o755)


def test_a_full_disk_leaves_nothing_half(store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(corrected(b"i"), b"i")
    before = files(folder)

    def full(target: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vision_mlops.flask_app.corrections.folder_store.atomic_write", full)
    with pytest.raises(DataError, match="No space left on device"):
        store.add(corrected(b"k"), b"k")
    assert files(folder) == before
    assert len(list(store.list())) == 1


WRITER = """
import sys
from pathlib import Path
from testing.support.corrections import corrected
from vision_mlops.flask_app.corrections.folder_store import FolderStore

folder, name = Path(sys.argv[1]), sys.argv[2]
number = int(sys.argv[3])
while True:
    store = FolderStore(folder, 10**9)
    for _ in range(5):
        shared = number % 3 == 0  # each third image both have seen
        image = f"{'both' if shared else name} {number} ".encode() * 2000
        correction = corrected(image, who=name, request_id=str(number))
        store.add(correction, image)
        print(correction.id, flush=True)  # from here on it must never be lost
        number += 1
"""


def start(folder: Path, name: str, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_people_at_once_and_kill_9_lose_and_double_nothing(folder: Path) -> None:
    """Each process is killed at a random moment, again and again; what it was told to be kept is there, once and whole."""
    chance = random.Random(7)
    told: dict[str, list[str]] = {"ann": [], "bob": []}
    for turn in range(30):
        if turn >= 6 and all(
            told.values()
        ):  # on a busy machine one may be killed each time before it wrote a second line
            break
        running = {name: start(folder, name, len(ids)) for name, ids in told.items()}
        lines: dict[str, list[str]] = {}
        for process in running.values():
            assert process.stdout is not None
            process.stdout.readline()  # it has begun: the import takes longer than all that is watched here
        for name, process in running.items():
            time.sleep(chance.uniform(0.02, 0.25))
            process.send_signal(signal.SIGKILL)
            lines[name] = process.communicate()[0].split()
        for name, ids in lines.items():
            # The first line was read above; what was being written when it was killed may be there or not.
            told[name] += ids
    store = FolderStore(folder, 10**9)
    last = corrected(b"the next one cleans up")
    store.add(last, b"the next one cleans up")
    kept = list(store.list())
    ids = [correction.id for correction in kept]
    assert len(ids) == len(set(ids))
    assert set(told["ann"]) | set(told["bob"]) <= set(ids)
    assert all(told.values()), "both have written"
    for correction in kept:
        assert hashlib.sha256(store.image(correction)).hexdigest() == correction.sha256
    assert files(folder) == {"corrections.db", *(f"images/{item.image_name}" for item in kept)}
    # None was written with another number by a process that began anew at the same place.
    assert len({(item.who, item.request_id) for item in kept}) == len(kept)
    with sqlite3.connect(folder / "corrections.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
