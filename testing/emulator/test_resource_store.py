"""Resources in a file: routes change them in place, and a later process finds what they are."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from azureml_emulator.resources import rest_resources
from azureml_emulator.resources.rest_resources import ResourceStore

PATH = "/subscriptions/s/workspaces/ws/data/Photos"


def again(store: ResourceStore, file: Path) -> ResourceStore:
    store.close()
    return ResourceStore(file)


def test_resources_outlive_the_store(tmp_path: Path) -> None:
    file = tmp_path / "state" / "resources.db"
    store = ResourceStore(file)
    made, _ = store.put(PATH, {"properties": {"size": 1}})
    store.put(f"{PATH}/versions/1", {"properties": {}})
    store = again(store, file)
    found = store.get(PATH.upper())
    assert (found.to_dict(), found.number) == (made.to_dict(), made.number)
    later, new = store.put("/subscriptions/s/other", {})
    assert (new, later.number) == (True, 3), "numbers go on, as the order of lists depends on them"
    assert [item.name for item in store.children(f"{PATH}/versions")] == ["1"]


def test_a_change_in_place_is_written_even_when_it_comes_late(tmp_path: Path) -> None:
    file = tmp_path / "resources.db"
    store = ResourceStore(file)
    properties = store.put(PATH, {"properties": {"state": "Creating"}})[0].properties
    store.flush()
    properties["state"] = "Succeeded"  # as an operation does that was begun by an earlier call
    store.flush()
    assert ResourceStore(file).get(PATH).properties == {"state": "Succeeded"}


def test_only_what_has_changed_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_resources, "_SETTLED_SECONDS", -1.0)
    file = tmp_path / "resources.db"
    store = ResourceStore(file)
    for number in range(3):
        store.put(f"/a/{number}", {"properties": {"value": number}})
    store.flush()
    with sqlite3.connect(file) as other:
        other.execute("update resources set body = '{}'")  # so that a row that is written again shows
    store.get("/a/1").properties["value"] = 7
    store.get("/a/2").to_dict()
    store.flush()
    with sqlite3.connect(file) as other:
        bodies = [row[0] for row in other.execute("select body from resources order by number")]
    assert bodies == ["{}", '{"properties":{"value":7}}', "{}"]


def test_what_was_deleted_stays_away_and_may_be_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "resources.db"
    store = ResourceStore(file)
    store.put(PATH, {"properties": {"size": 1}})
    store.put(f"{PATH}/versions/1", {})
    store.flush()
    store.delete(PATH)
    store.put(PATH, {"properties": {"size": 2}})
    store = again(store, file)
    assert store.get(PATH).properties == {"size": 2}
    assert store.below(PATH) == []


def test_what_is_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ResourceStore()
    store.put(PATH, {})
    store.flush()
    store.close()
    assert list(tmp_path.iterdir()) == []
    assert store.find(PATH) is not None
