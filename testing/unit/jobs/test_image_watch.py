"""The watch on a folder of images: what starts a run, and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vision_mlops.core.errors import DataError, PipelineError
from vision_mlops.jobs.local.engine.image_watch import PollIntervals, Watch

QUICK = PollIntervals(poll=0.02, settle=0.15)


class Place:
    """A folder, and what was trained on it."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        self.memory = folder / "memory.json"
        self.runs: list[str] = []
        self.said: list[str] = []
        self.good = True
        (self.images / "a").mkdir(parents=True)
        self.write("a/1.png", "one")

    def write(self, name: str, content: str) -> None:
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def run(self, fingerprint: str) -> bool:
        self.runs.append(fingerprint)
        return self.good

    def watch(self) -> Watch:
        return Watch(self.images, self.memory, self.run, rhythm=QUICK, say=self.said.append)


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.slow
def test_only_a_changed_content_starts_a_run(place: Place) -> None:
    watch = place.watch()
    assert watch.once(), "never trained before"
    assert watch.once() is None
    os.utime(place.images / "a" / "1.png", (1, 1))
    place.write(".hidden", "x")
    place.write("a/2.png.part", "half")
    assert watch.once() is None, "neither times, nor hidden or unfinished files count"
    (place.images / "a" / "2.png.part").rename(place.images / "a" / "2.png")
    assert watch.once()
    (place.images / "a" / "2.png").unlink()
    assert watch.once(), "removed images count too"
    assert len(set(place.runs)) == 2
    assert place.runs[0] == place.runs[2]


def test_a_restart_remembers(place: Place) -> None:
    assert place.watch().once()
    assert place.watch().once() is None
    place.memory.write_text("no json")
    assert place.watch().once()


def test_a_failed_run_is_not_repeated_until_something_changes(place: Place) -> None:
    place.good = False
    watch = place.watch()
    assert watch.once() is False
    assert "the run failed" in place.said[-1]
    assert watch.once() is None
    place.write("a/3.png", "three")
    assert watch.once() is False


def test_an_error_of_a_run_does_not_end_the_watch(place: Place) -> None:
    def refuse(fingerprint: str) -> bool:
        raise PipelineError("no such step", "mend it")

    watch = Watch(place.images, place.memory, refuse, rhythm=QUICK, say=place.said.append)
    assert watch.once() is False
    assert any("no such step" in text for text in place.said)
    assert watch.once() is None


@pytest.mark.slow
def test_waits_until_the_images_have_settled(place: Place) -> None:
    done = threading.Event()

    def copy() -> None:
        for number in range(8):
            place.write(f"b/{number}.png", str(number))
            time.sleep(0.05)
        done.set()

    writer = threading.Thread(target=copy)
    writer.start()
    assert place.watch().once()
    assert done.is_set(), "the run began in the middle of the copying"
    writer.join()
    assert place.watch().once() is None, "all images were seen"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        Watch(tmp_path / "none", tmp_path / "memory.json", lambda fingerprint: True)


def test_a_run_that_was_killed_is_begun_again(place: Place, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from vision_mlops.jobs.local.engine.image_watch import PollIntervals, Watch\n"
        "run = lambda fingerprint: print('begun', flush=True) or time.sleep(60)\n"
        "Watch(Path(sys.argv[1]), Path(sys.argv[2]), run, rhythm=PollIntervals(0.02, 0.05)).once()\n"
    )
    words = [sys.executable, "-c", script, str(place.images), str(place.memory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    assert place.watch().once()
    assert place.watch().once() is None
