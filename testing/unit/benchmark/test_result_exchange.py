"""A result that was measured elsewhere stands beside those of this machine, if it is of exactly the same data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testing.support.contestants import MeanColour, ServiceColour
from testing.support.prepared_data import make_prepared
from typer.testing import Result

from vision_mlops.benchmark.arena import Arena
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.contestants import NamedContestant
from vision_mlops.core.errors import ConfigError, DataError, MlopsError

Run = Callable[..., Result]
HERE, SERVICE = "testing.support.contestants:MeanColour", "testing.support.contestants:ServiceColour"


@pytest.fixture
def exported(arena: Callable[[], Arena], mlops: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The result of a service, measured with another home folder."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLOPS_HOME", str(tmp_path / "elsewhere"))
        assert arena().run([NamedContestant(SERVICE, ServiceColour)]).measured
        written = mlops("export", "--workload", "colours.yml", "--with", "service-colour", "--out", "result.json")
        assert written.stdout.strip() == "result.json"
        refused = mlops("export", "--workload", "colours.yml", "--with", "service-colour", "--out", "result.json")
        assert "result.json exists already" in str(refused.exception)
    return Path("result.json")


@pytest.mark.slow
def test_a_recorded_result_is_in_table_and_report_and_is_not_measured_again(mlops: Run, exported: Path) -> None:
    assert mlops("import", exported, "--data", "prepared").exit_code == 0
    shown = mlops("report", "--workload", "colours", "--out", "page.html")
    day = json.loads(exported.read_text())["result"]["measured"][:10]
    assert f"recorded on {day}" in shown.stdout
    assert f"recorded on {day}" in Path("page.html").read_text()
    before = len(ServiceColour.requests)
    ended = mlops("run", "--workload", "colours.yml", "--data", "prepared", "--with", SERVICE)
    assert f"unchanged: measured {day}" in ended.stderr
    assert len(ServiceColour.requests) == before


@pytest.mark.slow
def test_a_service_that_is_not_set_up_needs_a_recorded_result(
    mlops: Run, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ConfigError("CUSTOM_VISION_ENDPOINT is not set", "set it")

    def refuse(self: ServiceColour) -> dict[str, object]:
        raise missing

    monkeypatch.setattr(ServiceColour, "settings", refuse)
    words = ("run", "--workload", "colours.yml", "--data", "prepared", "--with", HERE, "--with", SERVICE)
    refused = mlops(*words)
    assert refused.exception is missing  # a mistake of the user: exit code 2
    assert "mean-colour fit" not in MeanColour.calls  # before anything is trained
    assert mlops("import", exported, "--data", "prepared").exit_code == 0
    ended = mlops(*words)
    assert ended.exit_code == 0
    assert "not set up here: recorded" in ended.stderr
    assert "mean-colour fit" in MeanColour.calls


@pytest.mark.slow
def test_a_recorded_result_of_what_runs_here_is_measured_here(
    arena: Callable[[], Arena], mlops: Run, data: Path
) -> None:
    here = [NamedContestant("testing.support.contestants:MeanColour", MeanColour)]
    assert arena().run(here).measured
    mlops("export", "--workload", "colours.yml", "--with", "mean-colour", "--out", "here.json")
    refused = mlops("import", "here.json", "--data", "prepared")
    assert "a result of mean-colour was measured here already" in str(refused.exception)
    assert mlops("import", "here.json", "--data", "prepared", "--overwrite").exit_code == 0
    assert BenchmarkFolder("colours").read("mean-colour")[0].recorded
    assert arena().run(here).measured


def test_a_result_of_other_data_is_refused(mlops: Run, exported: Path, tmp_path: Path) -> None:
    make_prepared(tmp_path / "other", seed=1)
    ended = mlops("import", exported, "--data", "other")
    assert isinstance(ended.exception, DataError)
    assert "was measured on other data: its fingerprint is" in str(ended.exception)
    assert BenchmarkFolder("colours").names() == []


def changed(exported: Path, old: str, new: str) -> str:
    text = exported.read_text()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.slow
def test_a_damaged_file_is_refused(mlops: Run, exported: Path) -> None:
    def refused(text: str) -> str:
        Path("bad.json").write_text(text)
        ended = mlops("import", "bad.json", "--data", "prepared")
        assert isinstance(ended.exception, MlopsError), ended.output
        return str(ended.exception)

    assert "its content does not match its sha256" in refused(changed(exported, '"accuracy": 1.0', '"accuracy": 0.9'))
    assert "bad.json is damaged" in refused(exported.read_text()[:-40])
    assert "is not an exported result" in refused("[]")
    assert "cannot be read" in str(mlops("import", "none.json").exception)
    assert BenchmarkFolder("colours").names() == []


Change = Callable[[dict[str, Any]], None]


def sealed_again(exported: Path, change: Change) -> None:
    """Change a file and compute its sha256 anew, as somebody does who wants another result."""
    from vision_mlops.benchmark.result_exchange import _digest

    content = json.loads(exported.read_text())
    change(content)
    content["sha256"] = _digest({key: content[key] for key in ("result", "predictions")})
    exported.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it["result"]["metrics"].update(accuracy=0.9), "accuracy is 0.9, but the predictions give 1.0"),
        (lambda it: it["result"]["metrics"].update(accuracy="nan"), "accuracy is 'nan', but"),
        (lambda it: it["result"]["metrics"].update(accuracy_interval=[0.99, 1.0]), "accuracy_interval is [0.99, 1.0]"),
        (lambda it: it["result"]["metrics"].pop("macro_f1"), "macro_f1 is None"),
        (lambda it: it["result"].update(measured="9999-99-99T99:99:99+00:00"), "is damaged: measured: "),
        (lambda it: it["result"].update(hosted="yes"), "is damaged: hosted: 'yes' is not true or false"),
        (lambda it: it["result"]["latency_ms"].update(median=1e308), "is damaged: latency_ms.median: 1e+308 is above"),
        (lambda it: it["predictions"][0].__setitem__(2, [True, 0.0, 0.0]), "is damaged: 0.2.0: True is not a number"),
        (lambda it: it["predictions"].pop(), "but the predictions give"),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_and_sealed_again_is_refused(
    mlops: Run, exported: Path, change: Change, message: str
) -> None:
    sealed_again(exported, change)
    ended = mlops("import", exported, "--data", "prepared")
    assert isinstance(ended.exception, DataError), ended.output
    assert message in ended.exception.message
    assert "\n" not in ended.exception.message
    assert BenchmarkFolder("colours").names() == []


def test_measures_are_computed_from_predictions_in_any_order(mlops: Run, exported: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["predictions"].reverse()
        content["result"]["metrics"]["per_class"] = {"all": "perfect"}

    before = json.loads(exported.read_text())
    sealed_again(exported, change)
    assert mlops("import", exported, "--data", "prepared").exit_code == 0
    result, table = BenchmarkFolder("colours").read("service-colour")
    assert result.metrics == before["result"]["metrics"]
    assert table.paths == [row[0] for row in before["predictions"]]
