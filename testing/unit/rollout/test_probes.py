"""Probes: which images are sent, how often, to whom first, and what becomes of the answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from testing.support.prepared_data import make_prepared
from testing.support.rollout_world import PACE, tiny_bundle

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Access, Counts
from vision_mlops.endpoints.scoring_client import ScoringResponse
from vision_mlops.rollout import probes
from vision_mlops.rollout.probe_images import ProbeImage, folder_images, golden_images
from vision_mlops.rollout.probes import Pairs, Prober
from vision_mlops.rollout.rollout_report import explaining, telling

ACCESS = Access("memory:")


def scored(label: str, deployment: str = "", seconds: float = 0.01, **body: Any) -> ScoringResponse:
    return ScoringResponse(200, seconds, {"predictions": [{"label": label}], **body}, deployment)


def test_of_prepared_data_the_test_split_is_sent_and_of_a_folder_all(tmp_path: Path) -> None:
    make_prepared(tmp_path / "prepared", train=2, val=1, test=3)
    found = folder_images(tmp_path / "prepared")
    assert {path.path.relative_to(tmp_path / "prepared").parts[0] for path in found} == {"test"}
    assert (len(found), {image.kind for image in found}) == (9, {"image/png"})
    assert found == folder_images(tmp_path / "prepared")
    (tmp_path / "plain" / "a").mkdir(parents=True)
    for name in ("a/1.JPG", "2.png", "notes.txt"):
        (tmp_path / "plain" / name).write_bytes(b"x")
    assert sorted(image.path.name for image in folder_images(tmp_path / "plain")) == ["1.JPG", "2.png"]


def test_golden_examples_of_both_are_sent_once_each(tmp_path: Path) -> None:
    one, other = tiny_bundle(tmp_path / "one", ("a", "b")), tiny_bundle(tmp_path / "other", ("b", "c"))
    assert sorted(image.path.read_bytes() for image in golden_images([one, other])) == [b"a", b"b", b"c"]
    with pytest.raises(DeploymentError, match="no golden examples"):
        golden_images([])


def test_answers_are_compared_where_both_have_scored() -> None:
    pairs = Pairs()
    pairs.add(0, scored("a"), scored("a"))
    pairs.add(0, scored("b"), scored("a"))  # the same image, now another label
    pairs.add(
        1, ScoringResponse(422, 0.01, {}, problem="not an image"), scored("a")
    )  # one takes it, the other does not
    pairs.add(2, ScoringResponse(429, 0.01, {}, problem="busy"), scored("a"))
    pairs.add(3, ScoringResponse(0, 0.01, {}, problem="reset"), scored("a"))
    pairs.add(4, scored("a"), ScoringResponse(500, 0.01, {}, problem="fault"))
    assert pairs.seen == {0: True, 1: True}
    assert (pairs.candidate, pairs.champion, pairs.scored) == (Counts(6, 1), Counts(6, 1), 3)
    assert len(pairs.round_trips) == 2
    assert pairs.note == "the champion responded to a probe with 500: fault"


def test_time_of_work_counts_where_both_tell_it() -> None:
    pairs = Pairs()
    pairs.add(0, scored("a", timing={"work_ms": 3}), scored("a", timing={"total_ms": 3}))
    assert [(item.what, item.waits) for item in pairs.latencies(0)] == [("round trip of a probe", False)]
    pairs.add(0, scored("a", timing={"work_ms": 3}), scored("a", timing={"work_ms": 2.5}))
    assert pairs.work == [(3.0, 2.5)]
    work = ("scoring time of a probe", False)
    for share, more in ((0, []), (10, [("round trip of a probe", True)]), (100, [])):
        assert [(item.what, item.waits) for item in pairs.latencies(share)] == [work, *more]


def test_earlier_and_later_pairs_are_looked_at_each() -> None:
    pairs = Pairs(work=[(10.0, 1.0), (20.0, 1.0), (30.0, 1.0)])
    (found,) = pairs.latencies(100)
    assert [mine.values for mine, _ in found.halves] == [(10.0,), (20.0, 30.0)]


class Endpoint:
    """Keeps who was asked."""

    def __init__(self, answer: Callable[[str], ScoringResponse] = lambda name: scored("a", name)) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def ask(self, access: Access, image: bytes, kind: str, deployment: str) -> ScoringResponse:
        self.asked.append(deployment)
        return self._answer(deployment)


def prober(endpoint: Endpoint, folder: Path, **pace: Any) -> Prober:
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(b"a")
    images = [ProbeImage(folder / "a.png", "image/png")]
    return Prober(endpoint.ask, ACCESS, images, "new", "old", replace(PACE, **pace))


class Clock:
    """A prober's time: it passes where the prober waits, and where an answer is slow."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += max(0.0, seconds)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_pairs_come_in_changing_order_at_a_bounded_rate_once_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def answer(name: str) -> ScoringResponse:
        if len(endpoint.asked) == 10:  # the fifth pair takes longer than two that are on time
            clock.now += 0.05
        return scored("a", name)

    endpoint = Endpoint(answer)
    probing = prober(endpoint, tmp_path, probe_rate=50, warm_up=2)
    monkeypatch.setattr(probes, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(probing._ending, "wait", clock.wait)
    probing.start()
    assert probing.warm.wait(60)
    time.sleep(0.1)
    assert (len(endpoint.asked), probing.pairs().scored) == (4, 0)  # the first ones warm up; then it waits
    probing.count()
    until(lambda: probing.pairs().scored >= 6)
    probing.end()
    # Late ones are not made up for.
    assert clock.waited[:7] == pytest.approx([1 / 50] * 4 + [0] + [1 / 50] * 2)
    assert endpoint.asked[:8] == ["old", "new", "new", "old", "old", "new", "new", "old"]


def test_an_answer_of_another_deployment_is_none(tmp_path: Path) -> None:
    probing = prober(Endpoint(lambda name: scored("a", "old")), tmp_path, warm_up=0)
    probing.count()
    probing.start()
    until(lambda: probing.pairs().candidate.requests)
    probing.end()
    assert probing.pairs().scored == 0
    assert "old responded instead of new" in probing.pairs().note


def test_a_key_that_is_not_valid_any_more_is_noticed(tmp_path: Path) -> None:
    probing = prober(Endpoint(lambda name: ScoringResponse(401, 0.01, {}, problem="key")), tmp_path)
    probing.start()
    until(lambda: probing.refused)
    probing.renew(ACCESS)
    probing.end()


def test_what_ends_probing_is_told(tmp_path: Path) -> None:
    probing = prober(Endpoint(), tmp_path / "gone")
    (tmp_path / "gone" / "a.png").unlink()
    probing.start()
    until(lambda: probing.problem)
    assert "FileNotFoundError" in probing.problem


def test_of_a_log_what_went_well_is_left_out() -> None:
    def line(status: int, path: str = "/score") -> str:
        return json.dumps({"event": "request", "status": status, "path": path})

    log = ["serving", line(200), line(500), line(503, "/health/ready"), "Traceback", line(404)]
    assert telling("\n".join(log), 40) == "\n".join(["serving", line(500), "Traceback"])
    assert telling("\n".join(log), 1) == "Traceback"
    assert telling("\n".join([line(200)] * 3), 2) == "\n".join([line(200)] * 2)


def test_of_a_log_only_what_explains_is_shown_on_the_terminal() -> None:
    lines = [json.dumps({"level": level, "event": "request"}) for level in ("info", "warning", "info", "error")]
    assert explaining("\n".join([*lines, "Traceback"])) == "\n".join([lines[1], lines[3], "Traceback"])
    assert explaining("\n".join(lines[:1] * 20)) == ""
