"""Contestants are judged alike, results are reused as long as they hold, and nobody's failure is anybody else's."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from testing.support.contestants import MeanColour, ServiceColour

from vision_mlops.benchmark.arena import Arena
from vision_mlops.benchmark.benchmark_folder import BenchmarkFolder
from vision_mlops.benchmark.benchmark_result import PREDICTIONS, read_result
from vision_mlops.benchmark.contestant import Usage
from vision_mlops.benchmark.contestant_answers import answers_of
from vision_mlops.benchmark.contestants import NamedContestant
from vision_mlops.benchmark.service_leftovers import leftovers, remove_leftovers
from vision_mlops.config import load_workload
from vision_mlops.core.errors import ConfigError, DataError, MlopsError
from vision_mlops.data.manifest import read_manifest
from vision_mlops.evaluation.prediction_table import read_predictions

Open = Callable[[], Arena]
HERE = [NamedContestant("testing.support.contestants:MeanColour", MeanColour)]
SERVICE = [NamedContestant("testing.support.contestants:ServiceColour", ServiceColour)]


def test_a_result_is_reused_until_something_that_it_depends_on_changes(
    arena: Open, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = arena().run(HERE)
    (result,) = ended.measured
    assert (result.metrics["accuracy"], result.metrics["images"]) == (1.0, 12)
    assert result.latency_ms.median > 0
    assert not ended.failed
    assert arena().run(HERE).reused == [result]
    assert MeanColour.calls == ["mean-colour fit"]
    assert [item.name for item in arena().run(HERE, again=True).measured] == ["mean-colour"]
    monkeypatch.setattr(MeanColour, "colours", 4)
    assert arena().run(HERE).measured
    assert not arena().run(HERE).measured
    monkeypatch.setattr("vision_mlops.benchmark.arena.code_version", lambda kind: "other")
    assert arena().run(HERE).measured
    assert not list((BenchmarkFolder("colours").path / ".work").glob("*/*"))


def test_predictions_are_of_the_test_images_in_the_order_of_the_manifest(arena: Open, data: Path) -> None:
    (result,) = arena().run(HERE).measured
    table = read_predictions(BenchmarkFolder("colours").result_folder("mean-colour") / PREDICTIONS, result.classes)
    records = read_manifest(data).of_split("test")
    assert (table.paths, table.labels) == ([item.path for item in records], [item.label for item in records])
    assert all(table.right(result.classes).values())


def test_one_that_fails_does_not_keep_the_others_from_their_results(
    arena: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServiceColour, "problem", RuntimeError("no quota\nsecond line"))
    ended = arena().run([*SERVICE, *HERE])
    assert re.fullmatch(r"RuntimeError: no quota \(contestants\.py, line \d+\)", ended.failed["service-colour"])
    assert [item.name for item in ended.measured] == ["mean-colour"]
    assert BenchmarkFolder("colours").names() == ["mean-colour"]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.full((12, 2), 0.5), r"shape \(12, 2\), not \(12, 3\)"),
        (np.full((12, 3), 0.5), "add up to 1.5, not to 1"),
        (np.full((12, 3), np.nan), "negative or not a number"),
        ([["a", "b", "c"]] * 12, "^predict\\(\\) of 12 images: could not convert .*each row adding up to 1"),
    ],
)
def test_what_is_no_probability_is_refused(
    arena: Open, monkeypatch: pytest.MonkeyPatch, returned: np.ndarray, message: str
) -> None:
    monkeypatch.setattr(MeanColour, "predict", lambda self, files: returned)
    failed = arena().run(HERE).failed["mean-colour"]
    assert re.search(message, failed), failed
    assert BenchmarkFolder("colours").names() == []


def test_a_service_is_asked_once_for_an_image_and_goes_on_after_an_interruption(
    arena: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServiceColour, "interrupt_at", 5)
    with pytest.raises(KeyboardInterrupt):
        arena().run([*HERE, *SERVICE])
    folder = BenchmarkFolder("colours")
    assert folder.names() == ["mean-colour"]
    (work,) = folder.all_work()
    before = work.round_trips()
    assert len(before) == 5
    monkeypatch.setattr(ServiceColour, "interrupt_at", None)
    (result,) = arena().run([*HERE, *SERVICE]).measured
    assert len(ServiceColour.requests) == 12
    assert before.items() <= work.round_trips().items()  # what was kept by the contestant took no request
    assert result.latency_ms.images == 12
    assert result.usage is not None
    assert MeanColour.calls.count("mean-colour fit") == 1


@pytest.mark.slow
def test_a_run_anew_that_was_interrupted_goes_on_and_asks_nothing_twice(
    arena: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [*SERVICE, *HERE]
    before = arena().run(entries).measured
    folder = BenchmarkFolder("colours")
    monkeypatch.setattr(ServiceColour, "interrupt_at", 12 + 5)
    for again in (True, True, False):  # the second and the third have no more requests to send than the first
        with pytest.raises(KeyboardInterrupt):
            arena().run(entries, again=again)
    assert [folder.read(item.name)[0] for item in before] == before
    monkeypatch.setattr(ServiceColour, "interrupt_at", None)
    ended = arena().run(entries)
    assert [item.name for item in ended.measured] == ["service-colour", "mean-colour"]  # also what had not begun yet
    assert MeanColour.calls.count("service-colour clean_up") == 1
    assert len(ServiceColour.requests) == 12 + 12
    assert arena().run(entries).reused == ended.measured


def test_what_was_not_wholly_removed_is_removed_before_it_is_trained_anew(
    arena: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena().run(SERVICE)
    with monkeypatch.context() as broken:
        broken.setattr(ServiceColour, "clean_up", lambda self: (_ for _ in ()).throw(RuntimeError("no connection")))
        assert arena().run(SERVICE, again=True).failed == {"service-colour": "RuntimeError: no connection"}
    assert arena().run(SERVICE).measured
    assert MeanColour.calls == ["service-colour fit", "service-colour clean_up", "service-colour fit"]


def test_a_service_that_knows_its_round_trips_is_believed(arena: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServiceColour, "ms", (90.0, 100.0, 110.0))
    assert arena().run(SERVICE).measured[0].latency_ms.median == 100.0


def test_what_a_service_has_is_removed_by_its_contestant(arena: Open) -> None:
    arena().run(SERVICE)
    folder = BenchmarkFolder("colours")
    assert [item.name for item in leftovers(folder, ["service-colour"], print)] == ["service-colour"]
    assert arena().run(SERVICE, again=True).measured
    assert MeanColour.calls == ["service-colour fit", "service-colour clean_up", "service-colour fit"]
    found = leftovers(folder, [], print)
    (found[0].folder.own / "project").rename(found[0].folder.own / "away")
    (problem,) = remove_leftovers(found, lambda _: None)
    assert "FileNotFoundError" in problem
    (found[0].folder.own / "away").rename(found[0].folder.own / "project")
    assert remove_leftovers(leftovers(folder, [], print), lambda _: None) == []
    assert folder.all_work() == []
    assert folder.names() == ["service-colour"]


@pytest.mark.parametrize(
    ("problem", "there", "left"),
    [
        (ConfigError("unknown domain", "did you mean 'General'?"), False, 0),
        (DataError("too few images"), False, 0),
        (MlopsError("the service does not respond"), False, 1),
        (ConfigError("another account"), True, 1),
    ],
)
def test_what_is_refused_before_it_created_anything_leaves_no_record(
    arena: Open, monkeypatch: pytest.MonkeyPatch, problem: MlopsError, there: bool, left: int
) -> None:
    """What may have created something keeps its record, without which nobody would find it."""
    monkeypatch.setattr(ServiceColour, "problem", problem)
    if there:
        monkeypatch.setattr(ServiceColour, "problem", MlopsError("interrupted"))
        arena().run(SERVICE)
        monkeypatch.setattr(ServiceColour, "problem", problem)
    ended = arena().run(SERVICE)
    assert ended.failed == {"service-colour": problem.on_one_line()}
    folder = BenchmarkFolder("colours")
    assert len(leftovers(folder, [], print)) == left
    monkeypatch.setattr(ServiceColour, "problem", None)
    assert arena().run(SERVICE).measured


def test_a_paid_result_of_other_settings_is_kept(arena: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = BenchmarkFolder("colours")
    (first,) = arena().run(SERVICE).measured
    assert arena().run(SERVICE, again=True).measured  # of the same data and settings: replaced
    assert not (folder.path / ".earlier").exists()
    monkeypatch.setattr(MeanColour, "colours", 4)
    assert arena().run([*SERVICE, *HERE]).measured
    (kept,) = (folder.path / ".earlier").iterdir()
    assert read_result(kept)[0].settings == first.settings
    assert folder.names() == ["mean-colour", "service-colour"]


def test_a_changed_image_is_refused(arena: Open, data: Path) -> None:
    image = next(data.glob("test/*/*.png"))
    content = image.read_bytes()
    image.write_bytes(content + b"x")
    with pytest.raises(DataError, match=f"{image.name} has changed since it was prepared"):
        arena()
    image.unlink()
    with pytest.raises(DataError, match="is missing"):
        arena()


def test_two_runs_at_once_are_refused_and_half_written_results_are_removed(arena: Open) -> None:
    folder = BenchmarkFolder("colours")
    left = folder.path / ".mean-colour.0123abcd"
    left.mkdir(parents=True)
    with folder.locked(), pytest.raises(MlopsError, match="another command is running a benchmark"):
        arena().run(HERE)
    assert arena().run(HERE).measured
    assert not left.exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("result.json", '"accuracy": 1.0', '"accuracy": 0.5', "result.json is damaged: accuracy is 0.5, but"),
        (
            "result.json",
            '"hosted": false',
            '"hosted": 0',
            "result.json is damaged: hosted: 0 is not true or false",
        ),
        ("result.json", "{", "", "result.json is damaged: invalid JSON"),
        ("predictions.csv", "path,", "pa\nth,", "predictions.csv is damaged: its columns are not"),
        ("predictions.csv", "\ntest", "\ntest\ntest", "predictions.csv is damaged: row 2 has 1 cells, not 6"),
    ],
)
def test_a_damaged_result_is_named_and_measured_again(data: Path, name: str, old: str, new: str, problem: str) -> None:
    said: list[str] = []
    arena = Arena(load_workload("colours.yml"), data, said.append)
    arena.run(HERE)
    file = BenchmarkFolder("colours").result_folder("mean-colour") / name
    file.write_text(file.read_text().replace(old, new, 1))
    assert arena.run(HERE).measured
    (line,) = (line for line in said if problem in line)
    assert "\n" not in line


def test_settings_that_are_not_plain_are_refused(arena: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeanColour, "settings", lambda self: {"path": Path()})
    assert "settings() returned values that are not plain JSON" in arena().run(HERE).failed["mean-colour"]


def test_an_answer_of_another_kind_is_named(arena: Open, tmp_path: Path) -> None:
    contestant = MeanColour(arena().task(tmp_path))
    for method, returned, message in (
        ("size_bytes", 5.5, "size_bytes() returned 5.5: return a whole number of bytes, or None"),
        ("training_seconds", -1, "training_seconds() returned -1: return seconds"),
        ("usage", {"gold": 1.0}, "usage() returned {'gold': 1.0}: return a Usage, or None"),
        ("usage", Usage({"gold": -1.0}), "give each amount, a number of 0 or more, by the key of its price"),
        ("remark", None, "remark() returned None: return a text"),
    ):
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(MeanColour, method, lambda self, found=returned: found)
            with pytest.raises(MlopsError) as raised:
                answers_of(contestant)
        assert message in raised.value.on_one_line()
    assert answers_of(contestant)["size_bytes"] is None


def test_one_that_ends_the_program_or_prints_is_like_any_other(
    arena: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(self: MeanColour) -> None:
        print("leaving")
        sys.exit("I leave")

    monkeypatch.setattr(MeanColour, "fit", leave)
    ended = arena().run([*HERE, *SERVICE])
    assert ended.failed["mean-colour"] == "SystemExit: I leave"
    assert ended.failed["service-colour"].startswith("SystemExit: I leave (contestants.py, line ")
    assert capsys.readouterr() == ("", "leaving\n" * 2)
    assert [item.name for item in leftovers(BenchmarkFolder("colours"), [], print)] == ["service-colour"]
