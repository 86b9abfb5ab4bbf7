"""The prediction log: which requests it takes, what a record says, and that files are whole whatever happens."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_mlops.config.workload import Predictions
from vision_mlops.config.workload_files import load_workload
from vision_mlops.core.errors import ConfigError
from vision_mlops.serving.prediction_log.predictions import (
    PredictionLog,
    PredictionSample,
    describe,
    predictions_folder,
    start_predictions,
)
from vision_mlops.serving.prediction_log.record_files import RecordFiles, count_lines, finished

CLASSES = ["blackbird", "r\u00f6bin"]
MODEL = {"name": "birds", "version": "3", "id": "abc"}


def image(width: int = 30, height: int = 20) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (1, 2, 3)).save(stream, "PNG")
    return stream.getvalue()


PNG = image()


def sample(images: int = 1, identity: str = "r-1", data: bytes = PNG) -> PredictionSample:
    rows = np.tile(np.asarray([0.25, 0.75], np.float32), (images, 1))
    return PredictionSample(identity, "1" * 32, MODEL, CLASSES, [data] * images, rows, 4.25, 1767225599.5)


def records(folder: Path) -> list[dict[str, Any]]:
    """All records in complete files."""
    return [json.loads(line) for path in finished(folder) for line in path.read_bytes().splitlines()]


class Counts(Counter[str]):
    """What was told."""

    def __call__(self, fate: str, number: int) -> None:
        self[fate] += number


def log_in(folder: Path, counts: Counts, *, images: bool = False, share: float = 1.0, **more: Any) -> PredictionLog:
    files = RecordFiles(folder, max_bytes=10**9, dropped=lambda number: counts("dropped", number))
    return PredictionLog(Predictions(sample=share, images=images), files, counts, **more)


def test_a_record_says_what_was_asked_and_answered(tmp_path: Path) -> None:
    counts = Counts()
    log = log_in(tmp_path, counts)
    log.put(sample(2))
    log.close()
    first, second = records(tmp_path)
    assert first == {
        "time": "2025-12-31T23:59:59.500Z",
        "request_id": "r-1",
        "trace_id": "1" * 32,
        "model": {"name": "birds", "version": "3", "id": "abc"},
        "number": 0,
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "width": 30,
        "height": 20,
        "bytes": len(PNG),
        "label": "r\u00f6bin",
        "probability": 0.75,
        "probabilities": {"blackbird": 0.25, "r\u00f6bin": 0.75},
        "latency_ms": 4.25,
    }
    assert second == {**first, "number": 1}
    assert counts == {"written": 2}
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    assert finished(tmp_path)[0].stat().st_mode & 0o777 == 0o600, "only the user reads it"


def test_images_are_kept_only_when_asked_for() -> None:
    assert "image" not in describe(sample(), 0)
    assert base64.b64decode(describe(sample(), 0, with_image=True)["image"]) == PNG
    assert describe(sample(data=b"odd"), 0)["width"] == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_sample_is_decided_by_the_key(tmp_path: Path, share: float) -> None:
    keys = [f"{number:032x}" for number in range(4000)]
    taken = []
    for _ in range(2):
        log = log_in(tmp_path, Counts(), share=share)
        taken.append([key for key in keys if log.wants(key)])
        log.close()
    assert taken[0] == taken[1]
    assert abs(len(taken[0]) - share * 4000) < 120
    assert len(taken[0]) == 4000 * share or share not in (0.0, 1.0)


def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path: Path) -> None:
    small, large = (log_in(tmp_path, Counts(), share=share) for share in (0.1, 0.3))
    keys = [f"key {number}" for number in range(500)]
    assert {key for key in keys if small.wants(key)} < {key for key in keys if large.wants(key)}
    small.close()
    large.close()


def test_it_is_off_unless_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_workload("textile").serving.predictions == Predictions()
    assert start_predictions(Predictions(), "birds", Counts()) is None
    monkeypatch.setenv("MLOPS_SERVING__PREDICTIONS__SAMPLE", "1")
    settings = load_workload("textile").serving.predictions
    assert (settings.sample, settings.images, settings.to) == (1.0, False, "")
    log = start_predictions(settings, "bi/../rds", Counts())
    assert log is not None
    log.put(sample())
    log.close()
    assert len(records(home / "predictions" / "bi_.._rds")) == 1
    assert predictions_folder("..").parent == home / "predictions"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("serving.predictions.sample=2", "2.0 is above 1"),
        ("serving.predictions.to=C:/here", "must be empty, https://ACCOUNT"),
        ("serving.predictions.imagse=true", "did you mean 'serving.predictions.images'"),
        ("serving.predictions.max_disk_mb=0", "0 is below 1"),
    ],
)
def test_wrong_settings(item: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_workload("textile", [item])


class Stuck(RecordFiles):
    """Files that take nothing until they are told to."""

    gate: threading.Event

    def write(self, line: bytes) -> None:
        self.gate.wait(100)
        super().write(line)


@pytest.mark.parametrize("limit", [{"most_images": 10}, {"most_bytes": 10 * len(PNG)}])
def test_what_cannot_be_written_in_time_is_dropped_and_nobody_waits(tmp_path: Path, limit: dict[str, int]) -> None:
    counts = Counts()
    files = Stuck(tmp_path, max_bytes=10**9)
    files.gate = threading.Event()
    log = PredictionLog(Predictions(sample=1.0), files, counts, **limit)
    for _ in range(50):
        log.put(sample(2))
    assert counts == {"dropped": 90}, "nothing could be written, and nobody has waited for it"
    files.gate.set()
    deadline = time.monotonic() + 60
    while counts["written"] < 10:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    log.put(sample(2))
    log.close()
    assert counts == {"dropped": 90, "written": 12}
    assert len(records(tmp_path)) == 12


def test_a_file_ends_with_its_time_or_size(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path / "size", max_bytes=10**6, file_bytes=100)
    for _ in range(5):
        files.write(b"x" * 59 + b"\n")
    assert [path.stat().st_size for path in finished(files.folder)] == [120, 120]
    files.finish()
    assert len(finished(files.folder)) == 3
    log = PredictionLog(
        Predictions(sample=1.0), RecordFiles(tmp_path / "time", max_bytes=10**6, seconds=0.2), Counts(), idle_s=0.05
    )
    log.put(sample())
    deadline = time.monotonic() + 60
    while not finished(tmp_path / "time"):  # also where nothing more comes
        assert time.monotonic() < deadline
        time.sleep(0.02)
    log.close()


def test_the_oldest_go_first_where_there_is_too_much(tmp_path: Path) -> None:
    dropped: list[int] = []
    files = RecordFiles(tmp_path, max_bytes=1000, dropped=dropped.append)
    for number in range(4):
        (tmp_path / f"2026010{number}T000000-h-1-1.jsonl").write_bytes(b"x" * 150 * number + b"\n" * 4)
    files.write(b"y" * 199 + b"\n")
    assert [path.name[:8] for path in finished(tmp_path)] == ["20260100", "20260101", "20260102", "20260103"]
    files.finish()
    assert [path.name[:8] for path in finished(tmp_path)][:-1] == ["20260102", "20260103"]
    assert dropped == [4, 4]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


KILLED = """
import sys, time
from pathlib import Path
from vision_mlops.serving.prediction_log.record_files import RecordFiles
files = RecordFiles(Path(sys.argv[1]), max_bytes=10**6)
files.write(b'{"a":1}\\n')
import os
os.write(files._descriptor, b'{"torn')
print("ready", flush=True)
time.sleep(60)
"""


def test_the_file_of_a_killed_process_is_finished_by_another_one(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    log_in(tmp_path, Counts()).close()
    assert finished(tmp_path) == [], "it is being written"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    log_in(tmp_path, Counts()).close()
    assert records(tmp_path) == [{"a": 1}]
    assert sorted(tmp_path.iterdir()) == finished(tmp_path)


def test_a_file_that_is_taken_for_one_left_behind_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, other = RecordFiles(tmp_path, max_bytes=10**6), RecordFiles(tmp_path, max_bytes=10**6)
    flock, calls = fcntl.flock, list[int]()

    def late(descriptor: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            other.adopt()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    files.write(b"1\n")
    files.finish()
    assert [path.read_bytes() for path in finished(tmp_path)] == [b"1\n"]
    assert calls.count(fcntl.LOCK_EX) == 2


def test_two_logs_of_one_process_leave_each_others_files_alone(tmp_path: Path) -> None:
    one, two = RecordFiles(tmp_path, max_bytes=10**6), RecordFiles(tmp_path, max_bytes=10**6)
    one.write(b"1\n")
    two.write(b"2\n")
    one.adopt()
    two.adopt()
    assert finished(tmp_path) == []
    one.write(b"1\n")
    one.finish()
    two.finish()
    assert sorted(path.read_bytes() for path in finished(tmp_path)) == [b"1\n1\n", b"2\n"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_drops_records_and_tears_none(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    log = log_in(small_disk / "records", counts)
    for _ in range(500):
        log.put(sample())
    deadline = time.monotonic() + 60
    while counts.total() < 500:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    written = counts["written"]
    assert 50 < written < 400
    assert counts["dropped"] == 500 - written
    assert caplog.text.count("No space left on device") == 1, "once, not for each"
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    log.put(sample(identity="later"))
    log.close()
    assert counts["written"] == written + 1
    found = records(small_disk / "records")
    assert len(found) == written + 1
    assert found[-1]["request_id"] == "later"


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    counts = Counts()
    log = log_in(tmp_path / "in the way" / "records", counts)
    log.put(sample(3))
    log.close()
    assert counts == {"dropped": 3}


def test_lines_of_a_file_that_is_gone(tmp_path: Path) -> None:
    assert count_lines(tmp_path / "gone") == 0
