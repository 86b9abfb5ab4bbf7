"""Responses of MLflow's registry that are kept: MLflow is not asked again before somebody writes to its database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from testing.support.registry_contract import MakeBundle

from vision_mlops.registry.mlflow_registry import MlflowRegistry
from vision_mlops.tracking import mlflow_runs


@pytest.fixture
def registered(store: Path, plain_bundle: MakeBundle) -> MlflowRegistry:
    registry = MlflowRegistry()
    registry.register(plain_bundle(), "textile", aliases=["champion"])
    return registry


def _refuse_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    def client() -> Any:
        raise AssertionError("MLflow is asked")

    monkeypatch.setattr(mlflow_runs, "client", client)


def test_mlflow_is_not_asked_twice(registered: MlflowRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registered.models(), registered.versions("textile")
    _refuse_questions(monkeypatch)
    assert (registered.models(), registered.versions("textile")) == before
    assert MlflowRegistry().get("textile@champion") == before[1][0]


def test_a_change_by_others_is_seen(registered: MlflowRegistry) -> None:
    registered.versions("textile")
    mlflow_runs.client().set_model_version_tag("textile", "1", "verdict", "reject")
    assert registered.get("textile").verdict == "reject"
    mlflow_runs.client().delete_registered_model_alias("textile", "champion")
    assert registered.get("textile").aliases == ()


def test_a_damaged_file_is_written_anew(registered: MlflowRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registered.models()
    file = Path(mlflow_runs.database_file() or "").parent / "models" / ".registry.json"
    file.write_text("{", encoding="utf-8")
    assert registered.models() == before
    _refuse_questions(monkeypatch)
    assert registered.models() == before


@pytest.mark.parametrize("how", ["a write-ahead log", "an open transaction", "another store"])
def test_nothing_is_kept_where_changes_cannot_be_told(
    registered: MlflowRegistry, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    registered.models()
    database = mlflow_runs.database_file()
    assert database is not None
    if how == "a write-ahead log":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    elif how == "an open transaction":
        database.with_name(f"{database.name}-journal").write_bytes(b"")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    _refuse_questions(monkeypatch)
    with pytest.raises(AssertionError, match="MLflow is asked"):
        registered.models()
