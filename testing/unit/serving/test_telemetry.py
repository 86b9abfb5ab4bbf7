"""Metrics: what one process counts, and that the processes of a server together tell the truth whatever becomes of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vision_mlops.serving.telemetry import metrics_folder
from vision_mlops.serving.telemetry.metrics_folder import MetricFiles
from vision_mlops.serving.telemetry.prometheus_metrics import Telemetry


def values(text: str) -> dict[str, float]:
    """Samples of a page of metrics, by name with labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def shown(telemetry: Telemetry) -> dict[str, float]:
    return values(telemetry.expose().decode())


def test_each_app_of_a_process_counts_for_itself() -> None:
    one, two = Telemetry(), Telemetry()
    one.count_request(200)
    one.count_request(418)
    for label in ("cat", "dog", "cat"):
        one.count_label(label)
    one.images.inc(3)
    one.latency.observe(0.003)
    one.queue.observe(0.2)
    one.in_flight.inc()
    one.rejected.inc()
    one.count_reload("failed")
    one.count_record("written", 3)
    one.log_lines_dropped.inc()
    assert shown(one)["scoring_ready"] == 0
    one.show_model("pets", "3", "abc", ["cat", "bird"])
    found = shown(one)
    assert found["scoring_requests_total{code=200}"] == 1
    assert found["scoring_requests_total{code=418}"] == 1
    assert found["scoring_requests_total{code=503}"] == 0
    assert found["scoring_images_total"] == 3
    assert [found[f"scoring_predictions_total{{label={label}}}"] for label in ("cat", "dog", "bird")] == [2, 1, 0]
    assert found["scoring_latency_seconds_bucket{le=0.002}"] == 0
    assert found["scoring_latency_seconds_bucket{le=0.003}"] == 1
    assert found["scoring_latency_seconds_sum"] == pytest.approx(0.003)
    assert found["scoring_queue_seconds_count"] == 1
    assert found["scoring_requests_in_flight"] == 1
    assert found["scoring_rejected_total"] == 1
    assert found["scoring_worker_restarts_total"] == 0
    assert found["scoring_reloads_total{outcome=failed}"] == 1
    assert found["scoring_prediction_records_total{outcome=written}"] == 3
    assert found["scoring_log_lines_dropped_total"] == 1
    assert found["scoring_model_info{id=abc,name=pets,version=3}"] == 1
    assert found["scoring_ready"] == 1
    assert shown(two)["scoring_images_total"] == 0


def test_only_the_model_that_is_served_is_shown() -> None:
    telemetry = Telemetry()
    telemetry.show_model("pets", "3", "abc")
    telemetry.show_model("pets", "4", "def")
    assert [name for name in shown(telemetry) if "model_info" in name] == [
        "scoring_model_info{id=def,name=pets,version=4}"
    ]
    telemetry.show_model("pets", "3", "abc")
    assert "scoring_model_info{id=abc,name=pets,version=3}" in shown(telemetry)


# What follows runs as a server does: a supervisor that forks, in a process of its own.

PROLOGUE = """
import os, signal, sys, time
from pathlib import Path
from vision_mlops.serving.telemetry.metrics_folder import metrics_folder, use_slot

slots = {}

def open_folder(workers):
    global context
    context = metrics_folder(workers)
    return context.__enter__()

def close_folder():
    context.__exit__(None, None, None)

def scored(telemetry, labels):
    for label in labels:
        telemetry.count_label(label)
    telemetry.images.inc(len(labels))

def fork(work):
    '''A worker in a free slot: works, and ends when it is told to; returns (pid, end).'''
    slot = min(set(range(1, 100)) - set(slots.values()))
    done, tell = os.pipe()
    ended, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            use_slot(slot)
            from vision_mlops.serving.telemetry.prometheus_metrics import Telemetry
            telemetry = Telemetry()
            work(telemetry)
            os.write(tell, b"x")
            os.read(ended, 1)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    os.close(tell), os.close(ended)
    os.read(done, 1)
    os.close(done)
    slots[pid] = slot
    return pid, end

def finish(worker, sign=None):
    pid, end = worker
    if sign:
        os.kill(pid, sign)
    else:
        os.write(end, b"x")
    os.close(end)
    _, status = os.waitpid(pid, 0)
    assert status == (sign or 0), (status, sign)
    from vision_mlops.serving.telemetry.prometheus_metrics import forget_process
    forget_process(slots.pop(pid))

def show(telemetry, title):
    print("==", title, flush=True)
    print(telemetry.expose().decode(), flush=True)
"""


def supervise(script: str, **environ: str) -> dict[str, dict[str, float]]:
    """Run a supervisor; returns what it and its workers showed, by title."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", PROLOGUE + textwrap.dedent(script)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    pages = ended.stdout.split("== ")[1:]
    return {title: values(text) for title, _, text in (page.partition("\n") for page in pages)}


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Path]:
    """Where a server under test keeps its folder."""
    folder = tmp_path / "shared"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def test_any_process_tells_the_sum_and_the_dead_are_counted(parent: Path) -> None:
    shows = supervise(
        """
        files = open_folder(3)
        assert files.folder.parent == Path(os.environ["PARENT"]), files.folder
        from vision_mlops.serving.telemetry.prometheus_metrics import restart_counter
        restarts = restart_counter()

        def work(number):
            def work(telemetry):
                telemetry.show_model("pets", "1", "abc", ["cat", "dog"])
                telemetry.in_flight.inc(number)
                telemetry.count_request(200)
                scored(telemetry, ["cat"] * number)
                telemetry.latency.observe(0.0015 * number)
            return work

        def asking(title):
            return lambda telemetry: (telemetry.ready.set(1), show(telemetry, title))

        workers = [fork(work(number)) for number in (1, 2, 3)]
        finish(fork(asking("three")))
        names = sorted(os.listdir(files.folder))
        finish(workers.pop(), signal.SIGKILL)
        restarts.inc()
        finish(fork(asking("killed")))
        workers.append(fork(lambda telemetry: None))
        finish(fork(asking("starting")))
        finish(workers.pop(), signal.SIGKILL)
        workers.append(fork(lambda telemetry: telemetry.show_model("pets", "2", "def", ["cat", "dog"])))
        finish(fork(asking("replaced")))
        for _ in range(10):
            finish(workers.pop(), signal.SIGKILL)
            workers.append(fork(work(3)))
        finish(fork(asking("often")))
        assert sorted(os.listdir(files.folder)) == names
        [finish(worker) for worker in workers]
        folder = files.folder
        close_folder()
        assert not folder.exists()
        assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        """,
        PROMETHEUS_MULTIPROC_DIR=str(parent),
        PARENT=str(parent),
    )
    three, killed, starting = (shows[title] for title in ("three", "killed", "starting"))
    replaced, often = shows["replaced"], shows["often"]
    assert three["scoring_predictions_total{label=cat}"] == three["scoring_images_total"] == 6
    assert three["scoring_predictions_total{label=dog}"] == 0
    assert three["scoring_requests_total{code=200}"] == 3
    assert three["scoring_latency_seconds_bucket{le=0.002}"] == 1
    assert three["scoring_latency_seconds_count"] == 3
    assert three["scoring_latency_seconds_sum"] == pytest.approx(0.009)
    assert three["scoring_requests_in_flight"] == 6
    assert three["scoring_ready"] == 1
    assert three["scoring_model_info{id=abc,name=pets,version=1}"] == 1
    assert three["scoring_worker_restarts_total"] == 0

    assert killed["scoring_images_total"] == 6, "what the dead has counted is kept"
    assert killed["scoring_requests_in_flight"] == 3, "its requests are not in flight any more"
    assert killed["scoring_worker_restarts_total"] == 1

    assert killed["scoring_ready"] == 1
    assert starting["scoring_ready"] == 0, "the new worker is not ready yet"
    assert replaced["scoring_model_info{id=def,name=pets,version=2}"] == 1, "two models while they are replaced"
    assert replaced["scoring_model_info{id=abc,name=pets,version=1}"] == 1

    assert often["scoring_images_total"] == 6 + 10 * 3
    assert often["scoring_ready"] == 1
    assert "scoring_model_info{id=def,name=pets,version=2}" not in often


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_nobody_from_counting(small_disk: Path) -> None:
    """Without files that are allocated before, the process would be killed by SIGBUS, as the kernel finds no page."""
    shows = supervise(
        """
        files = open_folder(1)
        from vision_mlops.serving.telemetry.prometheus_metrics import restart_counter
        restarts = restart_counter()
        import errno
        with open(os.environ["PROMETHEUS_MULTIPROC_DIR"] + "/fill", "wb", buffering=0) as fill:
            try:
                while True:
                    fill.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC

        def work(telemetry):
            telemetry.show_model("pets", "1", "abc", [f"class {number}" for number in range(2000)])
            for number in range(2000):
                scored(telemetry, [f"class {number}"])
            telemetry.latency.observe(0.1)
            for number in range(500):
                telemetry.show_model("pets", str(number), "abc")
        finish(fork(work), signal.SIGKILL)
        restarts.inc()
        finish(fork(lambda telemetry: (scored(telemetry, ["class 0", "new"]), show(telemetry, "full"))))
        os.remove(os.environ["PROMETHEUS_MULTIPROC_DIR"] + "/fill")
        finish(fork(lambda telemetry: (scored(telemetry, ["new"]), show(telemetry, "room"))))
        close_folder()
        """,
        PROMETHEUS_MULTIPROC_DIR=str(small_disk),
    )
    full, room = shows["full"], shows["room"]
    assert full["scoring_images_total"] == 2002
    assert full["scoring_predictions_total{label=class 0}"] == 2
    assert full["scoring_predictions_total{label=(other)}"] > 100
    counted = [value for name, value in full.items() if name.startswith("scoring_predictions_total")]
    assert sum(counted) == 2002
    assert room["scoring_predictions_total{label=new}"] == 1


def test_where_nothing_can_be_written_the_server_counts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics_folder, "_parents", lambda: iter([tmp_path / "missing", Path("/proc")]))
    assert MetricFiles.create(2) is None
    assert "metrics are those of one worker only" in caplog.text
    assert str(tmp_path / "missing") in caplog.text


def test_a_disk_without_room_is_not_chosen(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = tmp_path / "roomy"
    roomy.mkdir()
    monkeypatch.setattr(metrics_folder, "_parents", lambda: iter([small_disk, roomy]))
    files = MetricFiles.create(50)
    assert files is not None
    assert files.folder.parent == roomy
    files.remove()
    assert list(small_disk.iterdir()) == []


def test_folders_of_killed_servers_are_removed(parent: Path) -> None:
    started = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROLOGUE + "files = open_folder(1); print(files.folder, flush=True); time.sleep(60)",
        ],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    folder = Path(started.stdout.readline().strip())
    os.utime(folder, (1, 1))
    own = "open_folder(1); close_folder()"
    supervise(own, PROMETHEUS_MULTIPROC_DIR=str(parent))
    assert folder.is_dir(), "it is in use"
    started.send_signal(signal.SIGKILL)
    started.communicate()
    os.utime(folder, (1, 1))
    early = parent / "mlops-metrics-0-early"  # killed before it had made anything
    early.mkdir()
    os.utime(early, (1, 1))
    foreign = parent / "mlops-metrics-0-link"
    foreign.symlink_to(folder)
    supervise(own, PROMETHEUS_MULTIPROC_DIR=str(parent))
    assert not folder.exists()
    foreign.unlink()


def test_a_folder_that_somebody_removed_is_no_error(parent: Path) -> None:
    shows = supervise(
        """
        files = open_folder(1)
        from vision_mlops.serving.telemetry.prometheus_metrics import restart_counter
        restarts = restart_counter()
        def work(telemetry):
            scored(telemetry, ["a"])
            import shutil
            shutil.rmtree(files.folder)
            scored(telemetry, ["a", "b"])
            show(telemetry, "gone")
        finish(fork(work))
        restarts.inc()
        close_folder()
        """,
        PROMETHEUS_MULTIPROC_DIR=str(parent),
    )
    assert shows["gone"]["scoring_images_total"] == 3
