"""Corrections in Blob Storage, on Azurite: each once, with its image as it came, also where instances add at once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from urllib.parse import quote

import pytest
from testing.support.blob_containers import QUICK, Container, connection_string
from testing.support.corrections import NOON, corrected
from testing.support.proxy import Kind, Proxy

from vision_mlops.core.errors import AzureError, ConfigError, CorrectionsFullError, DataError
from vision_mlops.flask_app.corrections.blob_store import BlobStore
from vision_mlops.flask_app.corrections.correction_store import open_store

MANY = 100_000_000
PATH = "kept/corrections ü#%"
ADDRESS = quote(PATH)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes stores at the end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def store(container: Container, opened: ExitStack) -> BlobStore:
    return opened.enter_context(closing(BlobStore(container.place(ADDRESS), MANY, QUICK)))


def test_all_of_a_correction_is_kept(
    store: BlobStore, container: Container, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, none = corrected(b"one"), corrected(b"two", None, suffix=".jpg", who="Zoë", at=NOON + timedelta(hours=1))
    store.add(none, b"two")
    store.add(one, b"one")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(container.account_url))
    again = opened.enter_context(closing(open_store(container.url(ADDRESS))))
    assert list(again.list()) == [one, none]
    assert (again.image(one), again.image(none)) == (b"one", b"two")
    contents = container.contents(PATH)
    assert contents.keys() == {
        f"images/{one.sha256}.png", f"images/{none.sha256}.jpg", f"records/{one.id}.json", f"records/{none.id}.json"
    }  # fmt: skip
    assert again.size_bytes() == sum(map(len, contents.values()))
    assert (
        container.client.get_blob_client(f"{PATH}/images/{one.sha256}.png").get_blob_properties()["content_settings"][
            "content_type"
        ]
        == "application/octet-stream"
    )


def test_the_same_statement_is_kept_once_with_its_later_time(store: BlobStore, container: Container) -> None:
    first, again = corrected(b"i"), corrected(b"i", at=NOON + timedelta(minutes=5))
    for correction in (first, again, first):
        store.add(correction, b"i")
    assert list(store.list()) == [again]
    store.add(corrected(b"i", "cow"), b"i")
    assert len(list(store.list())) == 2
    assert len(container.contents(PATH)) == 3, "the image is kept once"


def test_the_limit_refuses_and_keeps_nothing(container: Container, opened: ExitStack) -> None:
    store = opened.enter_context(closing(BlobStore(container.place(ADDRESS), 10_000, QUICK)))
    store.add(corrected(b"a" * 5_000), b"a" * 5_000)
    before = container.contents(PATH)
    with pytest.raises(CorrectionsFullError, match=r"its limit of 10,000\n"):
        store.add(corrected(b"b" * 5_000), b"b" * 5_000)
    assert container.contents(PATH) == before
    store.add(corrected(b"a" * 5_000, "cow"), b"a" * 5_000)


def test_a_place_without_corrections_is_named(store: BlobStore, container: Container, opened: ExitStack) -> None:
    with pytest.raises(DataError, match=r"kept/corrections%20%C3%BC%23%25 has no corrections\n"):
        list(store.list())
    container.client.upload_blob(f"{PATH}/records/x.json", b"[1]")
    with pytest.raises(DataError, match=r"records/x\.json is not a correction"):
        list(store.list())
    reader = opened.enter_context(closing(BlobStore(container.place(ADDRESS, permission="rl"), MANY, QUICK)))
    with pytest.raises(AzureError, match=r"AuthorizationPermissionMismatch|AuthorizationFailure"):
        reader.add(corrected(b"i"), b"i")
    with pytest.raises(ConfigError, match="is not a storage account"):
        open_store("https://example.org/container/corrections")


def test_a_changed_or_missing_image_is_named(store: BlobStore, container: Container) -> None:
    correction = corrected(b"i")
    store.add(correction, b"i")
    blob = container.client.get_blob_client(f"{PATH}/images/{correction.image_name}")
    blob.upload_blob(b"j", overwrite=True)
    with pytest.raises(DataError, match="was changed after it was received"):
        store.image(correction)
    blob.delete_blob()
    with pytest.raises(DataError, match="has no image"):
        store.image(correction)


def test_instances_that_add_the_same_at_once_keep_it_once(container: Container, opened: ExitStack) -> None:
    stores = [opened.enter_context(closing(BlobStore(container.place(ADDRESS), MANY, QUICK))) for _ in range(6)]
    later = [corrected(b"i", at=NOON + timedelta(seconds=number)) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: stores[number].add(later[number], b"i"), range(6)))
    assert list(stores[0].list()) == [later[-1]]


@pytest.mark.parametrize("kind", ["cut request", "lose answer", "damage request"])
def test_a_connection_that_breaks_loses_and_doubles_nothing(
    container: Container, proxy: Proxy, opened: ExitStack, kind: Kind
) -> None:
    place = container.through(proxy.account_url).place(ADDRESS)
    store = opened.enter_context(closing(BlobStore(place, MANY, QUICK)))
    images = {f"image {number}".encode() for number in range(4)}
    for number, image in enumerate(images):
        proxy.trouble(kind, method="PUT", skip=number % 2)  # the image, or the record
        store.add(corrected(image), image)
        proxy.calm()
    kept = list(store.list())
    assert len(kept) == 4
    assert {store.image(item) for item in kept} == images


WRITER = """
import sys
from testing.support.corrections import corrected
from vision_mlops.flask_app.corrections.correction_store import open_store

store = open_store(sys.argv[1], 10**9)
for number in range(int(sys.argv[3]), 10**6):
    image = f"{'both' if number % 3 == 0 else sys.argv[2]} {number} ".encode() * 2000
    correction = corrected(image, who=sys.argv[2], request_id=str(number))
    store.add(correction, image)
    print(correction.id, flush=True)
"""


@pytest.mark.slow
def test_kill_9_loses_and_doubles_nothing(
    container: Container, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(container.account_url))
    chance = random.Random(3)
    told: dict[str, list[str]] = {"ann": [], "bob": []}
    for _ in range(3):
        running = {
            name: subprocess.Popen(
                [sys.executable, "-c", WRITER, container.url("kept"), name, str(len(ids))],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, ids in told.items()
        }
        for process in running.values():
            assert process.stdout is not None
            process.stdout.readline()
        for name, process in running.items():
            time.sleep(chance.uniform(0.1, 0.4))
            process.send_signal(signal.SIGKILL)
            told[name] += process.communicate()[0].split()
    contents = container.contents("kept")
    store = opened.enter_context(closing(open_store(container.url("kept"))))
    kept = list(store.list())
    ids = {correction.id for correction in kept}
    assert len(ids) == len(kept)
    assert set(told["ann"]) | set(told["bob"]) <= ids
    assert all(told.values()), "both have written"
    assert all(store.image(item) for item in kept), "each record has its image, whole"
    assert {json.loads(text)["id"] for name, text in contents.items() if name.startswith("records/")} == ids
