"""Records of the prediction log arrive in Blob Storage, also when it was away, and stay here until they have."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from testing.support.blob_containers import QUICK, Container
from testing.support.proxy import Proxy

from vision_mlops.config.workload import Predictions
from vision_mlops.core.errors import ConfigError
from vision_mlops.serving.prediction_log.predictions import PredictionSample, start_predictions
from vision_mlops.serving.prediction_log.record_files import RecordFiles, finished
from vision_mlops.serving.prediction_log.shipping import Shipper, check_destination, start_shipping
from vision_mlops.storage import BlobFolder

BIRDS = {"name": "birds", "version": "3", "id": "abc"}
Start = Callable[[Callable[[], BlobFolder]], Shipper]


class Counts(Counter[str]):
    """What was told."""

    def __call__(self, fate: str, number: int) -> None:
        self[fate] += number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two complete files of two days, three records."""
    made = tmp_path / "records"
    made.mkdir()
    (made / "20260130T120000-h-1-1.jsonl").write_bytes(b'{"n":1}\n{"n":2}\n')
    (made / "20260131T120000-h-1-1.jsonl").write_bytes(b'{"n":3}\n')
    return made


SENT = {
    "2026/01/30/20260130T120000-h-1-1.jsonl": b'{"n":1}\n{"n":2}\n',
    "2026/01/31/20260131T120000-h-1-1.jsonl": b'{"n":3}\n',
}


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def start(folder: Path, counts: Counts) -> Iterator[Start]:
    """Start a shipper of the folder; it is closed in the end."""
    started = []

    def make(find: Callable[[], BlobFolder]) -> Shipper:
        made = Shipper(folder, find, lambda number: counts("sent", number), every_s=0.05, patience=QUICK)
        started.append(made)
        return made

    yield make
    for made in started:
        made.close()


def wait(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_records_of_a_server_arrive(container: Container, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", container.sas())
    settings = Predictions(sample=1.0, to=container.url("kept"))
    counts = Counts()
    check_destination(settings.to)
    shipper, log = start_shipping(settings, "birds", counts), start_predictions(settings, "birds", counts)
    assert shipper is not None
    assert log is not None
    log.put(
        PredictionSample(
            "r-1",
            "1" * 32,
            BIRDS,
            ["a", "b"],
            [b"x", b"y"],
            [[0.1, 0.9], [0.8, 0.2]],
            4.0,
        )
    )
    log.close()
    shipper.close()
    ((name, content),) = container.contents("kept").items()
    assert name.startswith(datetime.now(UTC).strftime("birds/%Y/%m/%d/%Y%m%dT"))
    assert [json.loads(line)["label"] for line in content.splitlines()] == ["b", "a"]
    assert counts == {"written": 2, "sent": 2}
    assert finished(home / "predictions/birds") == []


@pytest.mark.slow
def test_storage_that_is_away_gets_them_when_it_is_back(
    container: Container, proxy: Proxy, folder: Path, counts: Counts, start: Start
) -> None:
    place = container.through(proxy.account_url).place()
    trouble = proxy.trouble("answer", status=503, times=10_000)
    start(lambda: place)
    wait(lambda: trouble.struck > 8)
    assert len(finished(folder)) == 2
    assert counts == {}
    proxy.calm()
    wait(lambda: not finished(folder))
    wait(lambda: counts["sent"] == 3)
    assert container.contents() == SENT


def test_an_answer_that_was_lost_sends_nothing_twice(
    container: Container, proxy: Proxy, folder: Path, counts: Counts, start: Start
) -> None:
    place = container.through(proxy.account_url).place()
    proxy.trouble("lose answer", method="PUT", times=1)
    start(lambda: place)
    wait(lambda: counts["sent"] == 3)
    assert container.contents() == SENT


@pytest.mark.slow
def test_one_bad_file_holds_no_other_up(container: Container, proxy: Proxy, folder: Path, start: Start) -> None:
    place = container.through(proxy.account_url).place()
    proxy.trouble("cut request", method="PUT", part="20260130", times=10_000)
    start(lambda: place)
    wait(lambda: len(finished(folder)) == 1)
    assert [path.name[:8] for path in finished(folder)] == ["20260130"]


def test_no_right_to_write_keeps_them(
    container: Container, folder: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def find() -> BlobFolder:
        asked.append(1)
        return container.place(permission="rl")

    start(find)
    wait(lambda: len(asked) > 1)  # it may have been given meanwhile
    assert len(finished(folder)) == 2
    assert "predictions are not sent, but kept: " in caplog.text
    assert "AuthorizationPermissionMismatch" in caplog.text
    assert "sig=" not in caplog.text.replace("sig=***", "")


def test_a_closed_shipper_leaves_the_rest_for_the_next_start(
    container: Container, proxy: Proxy, folder: Path, counts: Counts, start: Start
) -> None:
    place = container.through(proxy.account_url).place()
    released = threading.Event()
    proxy.trouble("hold", before=released.wait, times=10_000)
    shipper = start(lambda: place)
    wait(lambda: len(proxy.seen) > 0)
    shipper.close(0.2)
    assert shipper._thread.is_alive(), "it was not waited for"
    assert len(finished(folder)) == 2
    proxy.calm()
    released.set()


SENDER = """
import sys
from pathlib import Path
from testing.support.blob_containers import QUICK
from vision_mlops.storage import locate
from vision_mlops.serving.prediction_log.record_files import RecordFiles
from vision_mlops.serving.prediction_log.shipping import Shipper
sent = []
shipper = Shipper(Path(sys.argv[1]), lambda: locate(sys.argv[2]), sent.append, every_s=0.02, patience=QUICK)
files = RecordFiles(Path(sys.argv[1]), max_bytes=10**7)
for number in range(10):
    files.write(b"%s %d\\n" % (sys.argv[3].encode(), number))
    files.finish()
shipper.close(30)
print(sum(sent))
"""


@pytest.mark.slow
def test_processes_share_the_work(container: Container, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", container.sas())
    command = [sys.executable, "-c", SENDER, str(folder), container.url()]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in ("one", "two")]
    sent = sum(int(process.communicate(timeout=60)[0]) for process in processes)
    assert sent == 23
    assert finished(folder) == []
    assert sum(content.count(b"\n") for content in container.contents().values()) == 23


def test_the_file_of_a_killed_process_is_sent(container: Container, folder: Path, counts: Counts, start: Start) -> None:
    left = RecordFiles(folder, max_bytes=10**6)
    left.write(b'{"n":4}\n')
    place = container.place()
    start(lambda: place)
    wait(lambda: counts["sent"] == 3)
    left.finish()
    wait(lambda: counts["sent"] == 4)


@pytest.mark.parametrize(
    ("to", "variables", "message"),
    [
        ("https://example.org/c/p", {}, "is not a storage account"),
        ("https://a.blob.core.windows.net/c?sv=1&sig=abc", {}, "contains a signature"),
        ("https://a.blob.core.windows.net/kept", {"AZURE_STORAGE_SAS_TOKEN": "abc"}, "not a shared access signature"),
        ("azureml://datastores/a b/paths/c", {}, "is not a valid datastore name"),
    ],
    ids=["host", "signature", "token", "datastore"],
)
def test_wrong_destinations_are_named_at_the_start(
    to: str, variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        check_destination(to)


def test_nothing_is_sent_unless_asked_for() -> None:
    check_destination("")
    assert start_shipping(Predictions(sample=1.0), "birds", Counts()) is None
    assert start_shipping(Predictions(to="https://a.blob.core.windows.net/c"), "birds", Counts()) is None
