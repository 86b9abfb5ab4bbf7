"""``mlops models``: what is printed, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vision_mlops.cli.models import app
from vision_mlops.core.errors import RegistryError

MakeBundle = Callable[..., Path]


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _json(*arguments: str) -> Any:
    return json.loads(_run(*arguments, "--json"))


@pytest.fixture
def two_versions(store: Path, tmp_path: Path, plain_bundle: MakeBundle) -> Path:
    for seed, accuracy in enumerate((0.5, 0.75)):
        metrics = tmp_path / f"{seed}.json"
        metrics.write_text(json.dumps({"accuracy": accuracy}))
        verdict = tmp_path / "verdict.json"
        verdict.write_text(json.dumps({"decision": "promote" if seed else "reject", "reasons": []}))
        bundle = str(plain_bundle(seed))
        _run("register", "--bundle", bundle, "--name", "textile", "--metrics", str(metrics), "--verdict", str(verdict))
    return store


def test_register_promote_list_show(two_versions: Path) -> None:
    assert [row["version"] for row in _json("list", "textile")] == [1, 2]
    assert "textile@champion is textile:2" in _run("promote", "textile")
    assert _json("list") == [{"name": "textile", "versions": 2, "latest": 2, "champion": 2, "champion_accuracy": 0.75}]
    shown = _json("show", "textile@champion")
    assert (shown["reference"], shown["verdict"], shown["metrics"]) == ("textile:2", "promote", {"accuracy": 0.75})
    assert "champion" in _run("show", "textile")
    assert "textile" in _run("list")


def test_promote_refuses_and_is_forced(two_versions: Path) -> None:
    with pytest.raises(RegistryError, match="its verdict is reject"):
        _run("promote", "textile:1")
    _run("promote", "textile:2")
    assert "(before: textile:2)" in _run("promote", "textile:1", "--force")


def test_compare(two_versions: Path) -> None:
    compared = _json("compare", "textile:1", "textile:2")
    assert compared["metrics"] == [{"metric": "accuracy", "a": 0.5, "b": 0.75, "difference": 0.25}]
    assert "0.25" in _run("compare", "textile:1", "textile")


def test_download_and_explain(two_versions: Path, tmp_path: Path) -> None:
    assert "textile:2 is in" in _run("download", "textile", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "bundle.json").is_file()
    text = _run("explain", "textile:2")
    assert "no alias" in text, "long lines are not cut"
    for word in ("data", "run", "bundle", "evaluation", "verdict", "registry", "accuracy 0.7500"):
        assert word in text
    chain = _json("explain", "textile:2")["chain"]
    assert [link["step"] for link in chain] == ["data", "run", "bundle", "evaluation", "verdict", "registry"]


def test_register_with_promote(store: Path, plain_bundle: MakeBundle) -> None:
    printed = _run("register", "--bundle", str(plain_bundle()), "--name", "textile", "--promote")
    assert printed.strip() == "registered textile:1 (@champion)"


def test_empty_registry(store: Path) -> None:
    assert _json("list") == []
    with pytest.raises(RegistryError, match="there is no model 'textile'"):
        _run("show", "textile")
