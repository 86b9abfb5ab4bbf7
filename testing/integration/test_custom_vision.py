"""The contestant custom-vision over HTTP, on the emulator's Custom Vision; with MLOPS_LIVE_AZURE=1 on real accounts.

Live accounts, which MLOPS_CUSTOM_VISION_* name, must have no projects; those that are made are removed at the end. It was
never run live.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from testing.support.prepared_data import make_prepared
from testing.support.vision_places import (
    Attempt,
    VisionPlace,
    account_path,
    make_accounts,
    only_project,
    training_client,
    vision_place,
)

from vision_mlops.benchmark.custom_vision.custom_vision_contestant import CustomVision
from vision_mlops.benchmark.custom_vision.model_training import ModelTraining
from vision_mlops.benchmark.custom_vision.service_errors import VisionError
from vision_mlops.benchmark.custom_vision.vision_client import VisionClient
from vision_mlops.benchmark.custom_vision.vision_project import KeptWork, VisionProject
from vision_mlops.core.errors import AzureError, ConfigError, DataError
from vision_mlops.core.hashing import file_hash
from vision_mlops.data.manifest import Manifest, write_manifest

CONTRIBUTOR = "c1ff6cc2-c111-46fe-8896-e0ef812ad9f3"
"""Of the role Cognitive Services Custom Vision Contributor, as infrastructure/modules/roles.json has it."""
pytestmark = pytest.mark.slow

CLIENT = """
import sys
from pathlib import Path
from testing.support.vision_places import Attempt
from vision_mlops.data.manifest import read_manifest

data, folder = map(Path, sys.argv[1:3])
attempt = Attempt(folder, data, read_manifest(data))
contestant = attempt.contestant()
contestant.fit()
contestant.predict(attempt.contestant().task.images("test").files)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisionPlace]:
    with vision_place(tmp_path_factory.mktemp("emulator") / "state") as place:
        yield place


@pytest.fixture
def place(running: VisionPlace, monkeypatch: pytest.MonkeyPatch) -> Iterator[VisionPlace]:
    """Accounts of the SKU S0 without projects; this process is led to them, and signed in by Microsoft Entra ID."""
    running.enter(monkeypatch)
    client = training_client()
    before = {row["id"] for row in client.call("GET", "projects")}
    yield running
    running.enter(monkeypatch)
    for row in client.call("GET", "projects"):
        if row["id"] not in before:
            VisionProject(client, row).delete(lambda text: None)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Eight training images of each of three colours."""
    return Attempt(tmp_path / "own", tmp_path / "data", make_prepared(tmp_path / "data"))


def relabelled(folder: Path, manifest: Manifest, seed: int) -> Manifest:
    """The same images with labels that have nothing to do with them."""
    labels = np.random.default_rng(seed).permutation([image.label for image in manifest.images])
    images = [
        image.model_copy(update={"label": str(label)}) for image, label in zip(manifest.images, labels, strict=True)
    ]
    return write_manifest(folder, manifest.model_copy(update={"images": images}))


def accuracy(attempt: Attempt, contestant: CustomVision) -> float:
    test = contestant.task.images("test")
    probabilities = contestant.predict(test.files)
    assert probabilities.shape == (len(test.files), len(attempt.manifest.classes))
    assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    return float((probabilities.argmax(axis=1) == test.labels).mean())


def test_it_learns_what_the_labels_say_and_nothing_else(place: VisionPlace, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    manifest = make_prepared(folder, train=20, test=12)
    attempt = Attempt(tmp_path / "true", folder, manifest)
    contestant = attempt.contestant()
    contestant.fit()
    assert accuracy(attempt, contestant) > 0.9
    usage = contestant.usage()
    assert usage.per_prediction == {"custom_vision_prediction": 1.0}
    assert usage.training["custom_vision_stored_image_month"] == 60
    assert usage.training["custom_vision_training_hour"] >= 0
    assert len(contestant.round_trips_ms()) == 36
    assert min(contestant.round_trips_ms()) > 0

    shuffled = Attempt(tmp_path / "shuffled", folder, relabelled(folder, manifest, seed=1))
    other = shuffled.contestant()
    other.fit()
    # 36 guesses among three: one in three, and more than 0.6 about once in 2,000 times.
    assert accuracy(shuffled, other) < 0.6
    assert attempt.manifest.fingerprint != shuffled.manifest.fingerprint


def test_what_is_done_is_not_done_again(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    first = attempt.contestant()
    first.fit()
    files = first.task.images("test").files
    expected = first.predict(files)
    made = only_project(training_client())
    assert (made["images"], len(made["iterations"])) == (24, 1)
    assert made["iterations"][0]["status"] == "Completed"
    assert attempt.manifest.fingerprint in made["description"]

    again = attempt.contestant()
    again.fit()
    assert np.allclose(again.predict(files), expected)
    assert again.round_trips_ms() == first.round_trips_ms(), "they are those of the first run"
    assert "uploaded" not in "".join(
        attempt.said[attempt.said.index(f"Custom Vision: the project {made['name']} exists") :]
    )

    lost = Attempt(attempt.folder.with_name("lost"), attempt.data, attempt.manifest)  # the folder, not the service
    third = lost.contestant()
    third.fit()
    assert np.allclose(third.predict(files), expected, atol=1e-4)
    assert third.round_trips_ms() != first.round_trips_ms()
    assert "have not changed since" in lost.words
    assert "uploaded" not in lost.words
    now = only_project(training_client())
    assert (now["images"], len(now["iterations"])) == (24, 1)

    anew = Attempt(attempt.folder.with_name("anew"), attempt.data, attempt.manifest)
    with monkeypatch.context() as patch:  # interrupted before it trains: the next attempt is not told again
        patch.setattr(ModelTraining, "begin", lambda self, known: pytest.fail("interrupted"))
        with pytest.raises(pytest.fail.Exception):
            anew.contestant(again=True).fit()
    for _ in range(2):
        anew.contestant().fit()
        assert len(only_project(training_client())["iterations"]) == 2, "it is trained anew once"

    kept = KeptWork.path(anew.folder)
    for log in (anew.folder / "uploads.jsonl", attempt.folder / "predictions.jsonl"):
        with log.open("ab") as stream:
            stream.write(b"garbage\n")
    made_at = attempt.contestant()
    made_at.fit()
    assert np.allclose(made_at.predict(files), expected)
    assert f"removed 1 damaged line from {attempt.folder / 'predictions.jsonl'}" in attempt.words
    kept.write_text("{")
    with pytest.raises(DataError, match=rf"{kept} is damaged.*\n.*remove it; the project is found again"):
        anew.contestant().fit()
    anew.contestant().clean_up()
    assert training_client().call("GET", "projects") == [], "it is found by its name"
    with pytest.raises(DataError, match=rf"is damaged.*has no project.*\n.*no longer exists, remove {kept}"):
        anew.contestant().clean_up()


def test_images_that_somebody_removed_are_uploaded_again(place: VisionPlace, attempt: Attempt) -> None:
    attempt.contestant().fit()
    client = training_client()
    made = only_project(client)
    path = f"projects/{made['id']}/images"
    pages = [client.call("GET", f"{path}/tagged", query={"take": "10", "skip": str(skip)}) for skip in (0, 10, 20)]
    rows = [row for page in pages for row in page]
    assert len({row["id"] for row in rows}) == 24, "they come in pages"
    client.call("DELETE", path, query={"imageIds": rows[0]["id"]})
    attempt.contestant().fit()
    assert only_project(client)["images"] == 24


def test_a_killed_run_goes_on(place: VisionPlace, tmp_path: Path) -> None:
    manifest = make_prepared(tmp_path / "data", train=100, test=12, size=24)
    attempt = Attempt(tmp_path / "own", tmp_path / "data", manifest)
    uploads, predictions = attempt.folder / "uploads.jsonl", attempt.folder / "predictions.jsonl"
    kill_when(place, attempt, uploads, 64)
    sent = uploads.read_text().splitlines()
    assert 64 <= len(sent) < 300, "it was killed in the middle"
    kill_when(place, attempt, predictions, 5)
    asked = len(predictions.read_text().splitlines())
    assert 5 <= asked < 36

    contestant = attempt.contestant()
    contestant.fit()
    assert accuracy(attempt, contestant) > 0.9
    for log, count in ((uploads, 300), (predictions, 36)):
        hashes = [json.loads(line)["sha256"] for line in log.read_text().splitlines()]
        assert len(hashes) == len(set(hashes)) == count, "nothing was sent twice, and nothing is missing"
    made = only_project(training_client())
    assert (made["images"], len(made["iterations"])) == (300, 1)


def kill_when(place: VisionPlace, attempt: Attempt, log: Path, rows: int) -> None:
    """Run it in a process of its own, and kill that once a log has some rows."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", CLIENT, str(attempt.data), str(attempt.folder)]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 90
        while not log.exists() or log.read_bytes().count(b"\n") < rows:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_what_was_made_is_removed(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt.contestant().fit()
    monkeypatch.setenv("MLOPS_CUSTOM_VISION_DOMAIN", "General [A1]")  # it is about other runs
    attempt.contestant().clean_up()
    assert training_client().call("GET", "projects") == []
    attempt.contestant().clean_up()
    assert attempt.said[-1].startswith("Custom Vision has no project ")
    monkeypatch.setenv("MLOPS_CUSTOM_VISION_TRAINING_ENDPOINT", "https://elsewhere.cognitiveservices.azure.com/")
    for act in (attempt.contestant().clean_up, attempt.contestant().fit):
        with pytest.raises(ConfigError, match="is in the account at https://cv-train") as caught:
            act()
        assert "mlops benchmark clean --workload textile --with custom-vision" in caught.value.hint


def test_advanced_training_beside_a_quick_one(
    place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.contestant().fit()
    monkeypatch.setenv("MLOPS_CUSTOM_VISION_TRAINING", "advanced")
    other = Attempt(attempt.folder.with_name("advanced"), attempt.data, attempt.manifest)
    contestant = other.contestant()
    assert contestant.settings() == {"domain": "General", "training": "advanced", "hours": 1}
    contestant.fit()
    made = only_project(training_client())
    kinds = {row["trainingType"]: row["reservedBudgetInHours"] for row in made["iterations"]}
    assert kinds == {"Regular": 0, "Advanced": 1}
    assert made["images"] == 24, "they are uploaded once"


def test_the_oldest_model_makes_room(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt.contestant().fit()
    client = training_client()
    path = f"projects/{only_project(client)['id']}"
    while len(rows := client.call("GET", f"{path}/iterations")) < 20:
        if all(row["status"] == "Completed" for row in rows):
            client.call("POST", f"{path}/train", query={"forceTrain": "true"}, body={})
    monkeypatch.setenv("MLOPS_CUSTOM_VISION_TRAINING", "advanced")
    Attempt(attempt.folder.with_name("advanced"), attempt.data, attempt.manifest).contestant().fit()
    kept = client.call("GET", f"{path}/iterations")
    assert len(kept) == 20
    assert sum(row["trainingType"] == "Advanced" for row in kept) == 1
    assert sum(bool(row["publishName"]) for row in kept) == 2, "no published one was deleted"


def test_by_keys(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = place.keys()
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    place.enter(monkeypatch, **keys)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "")  # no other sign-in
    contestant = attempt.contestant()
    contestant.fit()
    assert accuracy(attempt, contestant) > 0.9
    swapped = {"TRAINING_KEY": keys["PREDICTION_KEY"], "PREDICTION_KEY": keys["TRAINING_KEY"]}
    place.enter(monkeypatch, **swapped)
    with pytest.raises(VisionError) as caught:
        attempt.contestant().fit()
    assert "does not accept MLOPS_CUSTOM_VISION_TRAINING_KEY" in str(caught.value)
    assert "az cognitiveservices account keys list" in caught.value.hint
    assert not any(key in str(caught.value) for key in keys.values())
    place.enter(monkeypatch, TRAINING_KEY=keys["TRAINING_KEY"], PREDICTION_KEY="0" * 32)
    fresh = Attempt(attempt.folder.with_name("fresh"), attempt.data, relabelled(attempt.data, attempt.manifest, seed=3))
    with pytest.raises(VisionError, match="does not accept MLOPS_CUSTOM_VISION_PREDICTION_KEY"):
        fresh.contestant().fit()
    assert "uploaded" not in fresh.words, "it is said before anything is paid for"
    late = attempt.contestant()
    (attempt.folder / "predictions.jsonl").unlink()
    late.fit()
    with pytest.raises(VisionError, match="does not accept MLOPS_CUSTOM_VISION_PREDICTION_KEY"):
        late.predict(late.task.images("test").files)


def test_accounts_without_keys(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = place.keys()
    path = account_path(place.loopback, "cv-train")
    place.loopback.call("PATCH", path, {"properties": {"disableLocalAuth": True}})
    try:
        attempt.contestant().fit()
        monkeypatch.setenv("MLOPS_CUSTOM_VISION_TRAINING_KEY", keys["TRAINING_KEY"])
        with pytest.raises(VisionError, match="unset MLOPS_CUSTOM_VISION_TRAINING_KEY and sign in"):
            attempt.contestant().fit()
    finally:
        place.loopback.call("PATCH", path, {"properties": {"disableLocalAuth": False}})


def test_who_is_not_signed_in(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(AzureError, match="sign-in to Custom Vision: not signed in to Azure"):
        attempt.contestant().fit()


def test_addresses_that_are_wrong(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = "MLOPS_CUSTOM_VISION_TRAINING_ENDPOINT"
    monkeypatch.setenv(settings, os.environ["MLOPS_CUSTOM_VISION_PREDICTION_ENDPOINT"])
    with pytest.raises(VisionError, match=f"set {settings} to the address of the account that trains"):
        attempt.contestant().fit()
    monkeypatch.setenv(settings, "https://nobody.invalid")
    monkeypatch.setenv("NO_PROXY", "nobody.invalid")
    began = time.monotonic()
    with pytest.raises(VisionError, match=rf"cannot be reached at https://nobody.invalid.*\n.*check {settings}"):
        attempt.contestant().fit()
    assert time.monotonic() - began < 20, "a name that does not exist is not tried again"


def test_a_domain_that_does_not_exist(place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_CUSTOM_VISION_DOMAIN", "Generel")
    with pytest.raises(ConfigError, match=r"unknown domain 'Generel'\n.*did you mean 'General'"):
        attempt.contestant().fit()
    assert training_client().call("GET", "projects") == []


def test_copies_and_labels_that_contradict_each_other(place: VisionPlace, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    manifest = make_prepared(folder)
    first = next(image for image in manifest.images if image.label == "blue" and image.split == "train")
    images = [*manifest.images]
    for label, name in (("blue", "copy.png"), ("green", "other.png")):
        path = f"train/{label}/{name}"
        (folder / path).write_bytes((folder / first.path).read_bytes())
        images.append(first.model_copy(update={"path": path, "label": label}))
    attempt = Attempt(tmp_path / "own", folder, write_manifest(folder, manifest.model_copy(update={"images": images})))
    attempt.contestant().fit()
    assert "train/green/other.png (uploaded as train/blue/000.png)" in attempt.words
    assert only_project(training_client())["images"] == 24


def test_copies_in_other_formats(place: VisionPlace, tmp_path: Path) -> None:
    """Files that differ, of which the same JPEG is sent: the service keeps one image of them."""
    folder = tmp_path / "data"
    manifest = make_prepared(folder)
    first = next(image for image in manifest.images if image.label == "blue" and image.split == "train")
    images = [*manifest.images]
    with Image.open(folder / first.path) as image:
        for label, name, options in (
            ("blue", "a.tiff", {}),
            ("blue", "b.webp", {"lossless": True}),
            ("green", "c.tiff", {"compression": "tiff_lzw"}),
        ):
            path = f"train/{label}/{name}"
            image.save(folder / path, **options)
            digest = file_hash(folder / path)
            images.append(first.model_copy(update={"path": path, "label": label, "sha256": digest}))
    attempt = Attempt(tmp_path / "own", folder, write_manifest(folder, manifest.model_copy(update={"images": images})))
    for _ in range(2):
        contestant = attempt.contestant()
        contestant.fit()
        assert contestant.usage().training["custom_vision_stored_image_month"] == 25
    assert attempt.words.count("uploaded 27 of 27 images") == 1, "the second run knows what is there"
    assert f"learned for that class only: {folder / 'train/green/c.tiff'}" in attempt.words
    assert only_project(training_client())["images"] == 25


def test_somebody_makes_the_same_project_at_once(
    place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.contestant().fit()
    colleague = Attempt(attempt.folder.with_name("colleague"), attempt.data, attempt.manifest)
    real, hidden = VisionClient.call, ["projects", f"projects/{only_project(training_client())['id']}/tags"]

    def late(client: VisionClient, method: str, path: str, **rest: Any) -> Any:
        """The first look does not see yet what the other makes."""
        if method == "GET" and path in hidden:
            hidden.remove(path)
            return []
        return real(client, method, path, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(VisionClient, "call", late)
        colleague.contestant().fit()
    assert hidden == []
    assert "exists" in colleague.words
    assert len(only_project(training_client())["iterations"]) == 1


def test_accounts_that_do_not_belong_together(
    place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_accounts(place.loopback, "S0", "other")
    monkeypatch.setenv("MLOPS_CUSTOM_VISION_PREDICTION_ID", other["MLOPS_CUSTOM_VISION_PREDICTION_ID"])
    contestant = attempt.contestant()
    contestant.fit()
    files = contestant.task.images("test").files
    with pytest.raises(VisionError) as caught:
        contestant.predict(files)
    assert "PREDICTION_ENDPOINT and MLOPS_CUSTOM_VISION_PREDICTION_ID belong to different accounts" in caught.value.hint
    place.enter(monkeypatch)
    contestant = attempt.contestant()
    contestant.fit()
    assert accuracy(attempt, contestant) > 0.9
    assert len(only_project(training_client())["iterations"]) == 1, "it is published anew, and not trained anew"


def test_classes_of_any_name(place: VisionPlace, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    manifest = make_prepared(folder, test=8)
    names = {"blue": "Negative", "green": "a/b 🙂", "red": "negative"}
    images = [image.model_copy(update={"label": names[image.label]}) for image in manifest.images]
    changed = manifest.model_copy(update={"images": images, "classes": sorted(names.values())})
    attempt = Attempt(tmp_path / "own", folder, write_manifest(folder, changed))
    contestant = attempt.contestant()
    contestant.fit()
    assert accuracy(attempt, contestant) > 0.9


class UnreliableService:
    """Calls of a client, of a service that does not take some images, some of the times.

    Args:
        status: What it says of them.
        times: How often each fails, by its position in the order in which they come.
    """

    def __init__(self, status: str, times: dict[int, int]) -> None:
        self.status, self.times, self.real = status, times, VisionClient.call
        self.attempts: dict[str, list[bytes]] = {}
        """What was sent of each image, by its name."""
        self.batches: list[int] = []

    def call(self, client: VisionClient, method: str, path: str, *, body: Any = None, **options: Any) -> Any:
        if not path.endswith("/images/files"):
            return self.real(client, method, path, body=body, **options)
        self.batches.append(len(body["images"]))
        failed = []
        for image in body["images"]:
            self.attempts.setdefault(image["name"], []).append(base64.b64decode(image["contents"]))
            position = list(self.attempts).index(image["name"])
            if len(self.attempts[image["name"]]) <= self.times.get(position, 0):
                failed.append(image)
        sent = [image for image in body["images"] if image not in failed]
        answer = self.real(client, method, path, body={"images": sent}) if sent else {"images": []}
        answer["images"] += [{"sourceUrl": f'"{image["name"]}"', "status": self.status} for image in failed]
        return answer


def test_images_that_are_taken_later_or_never(
    place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = UnreliableService("ErrorStorage", {2: 1, 3: 2, 5: 99})
    with monkeypatch.context() as patch:
        patch.setattr(VisionClient, "call", lambda self, *args, **rest: service.call(self, *args, **rest))
        patch.setattr("vision_mlops.benchmark.custom_vision.image_upload.time.sleep", lambda seconds: None)
        with pytest.raises(DataError, match=r"does not accept 1 image: .*\.png \(ErrorStorage\)"):
            attempt.contestant().fit()
    assert service.batches[0] == 24
    assert service.batches[-1] == 1, "it was alone at last"
    assert only_project(training_client())["images"] == 23
    attempt.contestant().fit()
    assert only_project(training_client())["images"] == 24


def test_an_image_that_the_service_cannot_read_is_encoded_anew(
    place: VisionPlace, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = UnreliableService("ErrorImageFormat", {7: 1})
    with monkeypatch.context() as patch:
        patch.setattr(VisionClient, "call", lambda self, *args, **rest: service.call(self, *args, **rest))
        attempt.contestant().fit()
    (sent,) = [contents for contents in service.attempts.values() if len(contents) > 1]
    assert [content[:4] for content in sent] == [b"\x89PNG", b"\xff\xd8\xff\xe0"]
    assert "1 encoded as JPEG" in attempt.words
    assert only_project(training_client())["images"] == 24


def test_faults_on_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: Attempt) -> None:
    """Lost responses, broken connections, throttling and faults of the service: all is made once."""
    faults = [
        "POST .*/training/projects lose x1", "POST .*/tags 503 x1", "POST .*/tags lose x1",
        "POST .*/images/files 429 x1 after 1",
        "POST .*/images/files 413 x1", "POST .*/images/files lose x1",
        "POST .*/train lose x1", "GET .*/iterations/.* drop x1", "POST .*/publish lose x1",
        "POST .*/benchmark-.*/image/nostore 500 x1", "POST .*/benchmark-.*/image/nostore drop x1",
    ]  # fmt: skip
    options = [word for fault in faults for word in ("--fault", fault)]
    with vision_place(tmp_path / "state", "S0", *options) as place:
        place.loopback  # noqa: B018 - skips where the accounts are real
        place.enter(monkeypatch)
        contestant = attempt.contestant()
        contestant.fit()
        assert accuracy(attempt, contestant) > 0.9
        made = only_project(training_client())
        assert (made["images"], len(made["iterations"])) == (24, 1)
        assert len(training_client().call("GET", f"projects/{made['id']}/tags")) == 3
        assert attempt.words.count("trying again") >= 7


def test_free_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: Attempt) -> None:
    """What F0 does not allow: many calls a second, more than an hour of training, and a third project."""
    with vision_place(tmp_path / "state", "F0") as place:
        place.loopback  # noqa: B018 - skips where the accounts are real
        place.enter(monkeypatch)
        contestant = attempt.contestant()
        contestant.fit()
        assert accuracy(attempt, contestant) > 0.9
        assert "429" not in attempt.words, "it keeps within two calls a second by itself"
        assert "predicted 12 of 12 images" in attempt.words
        place.enter(monkeypatch, SKU="S0")  # which is wrong: the service throttles, and is obeyed
        lost = Attempt(tmp_path / "lost", attempt.data, attempt.manifest)
        lost.contestant().fit()
        assert "429" in lost.words
        place.enter(monkeypatch, SKU="F0", TRAINING="advanced")
        with pytest.raises(
            VisionError, match="BadRequestExceededQuota"
        ) as caught:  # an hour a month, of which some is used
            Attempt(tmp_path / "advanced", attempt.data, attempt.manifest).contestant().fit()
        assert "use accounts of the SKU S0, which costs money, and set MLOPS_CUSTOM_VISION_SKU=S0" in caught.value.hint
        place.enter(monkeypatch, SKU="F0", TRAINING="quick")
        client = training_client()
        client.call("POST", "projects", query={"name": "of somebody else"})
        third = Attempt(tmp_path / "third", attempt.data, relabelled(attempt.data, attempt.manifest, seed=2))
        with pytest.raises(VisionError) as caught:
            third.contestant().fit()
        assert "`mlops benchmark clean --workload textile --with custom-vision`" in caught.value.hint


def test_who_has_no_role(place: VisionPlace, attempt: Attempt) -> None:
    emulator = place.loopback
    scope = f"/subscriptions/{emulator.variables['AZURE_SUBSCRIPTION_ID']}/providers/Microsoft.Authorization/roleAssignments"
    rows = emulator.call("GET", scope).json()["value"]
    roles = [row for row in rows if row["properties"]["roleDefinitionId"].endswith(CONTRIBUTOR)]
    assert roles
    try:
        for row in roles:
            emulator.call("DELETE", row["id"])
        with pytest.raises(VisionError) as caught:
            attempt.contestant().fit()
        assert "PermissionDenied" in str(caught.value)
        assert "role Cognitive Services Custom Vision Contributor on the account that trains" in caught.value.hint
    finally:
        for row in roles:
            names = ("roleDefinitionId", "principalId", "principalType")
            body = {"properties": {name: row["properties"][name] for name in names}}
            assert emulator.call("PUT", row["id"], body).ok
    attempt.contestant().fit()
