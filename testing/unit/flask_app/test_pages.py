"""What the pages show comes from the endpoint, and stays usable where that is in trouble."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from testing.support.odd_endpoint import DESCRIPTION, MODEL, SCORES, OddAnswer, OddEndpoint
from testing.unit.flask_app.conftest import OpenApp, form, large, picture
from testing.unit.flask_app.test_uploads import noise, saved

from vision_mlops.flask_app import deployed_model

PAGES = ["/", "/history", "/model", "/status", "/use"]
CLASSES = ("blue", "green", "red")


def evaluation(classes: tuple[str, ...], first: int) -> dict[str, Any]:
    """An evaluation whose numbers all differ from those of one with another first number."""
    numbers = iter(range(first, first + 1000))

    def share() -> float:
        return next(numbers) / 1000

    return {
        "split": "test", "images": next(numbers), "accuracy": share(), "accuracy_interval": [share(), share()],
        "macro_f1": share(), "expected_calibration_error": share(), "negative_log_likelihood": share(),
        "brier_score": share(),
        "per_class": {
            name: {"precision": share(), "recall": share(), "f1": share(), "support": next(numbers), "auc": share(),
                   "average_precision": share()} for name in classes
        },
        "confusion_matrix": [[next(numbers) for _ in classes] for _ in classes],
        "reliability": [{"confidence": share(), "accuracy": share(), "count": next(numbers)} for _ in range(3)],
    }  # fmt: skip


def figures(page: str) -> set[str]:
    """The numbers of three digits and more, and the words, that can be read on a page."""
    seen = html.unescape(re.sub(r"<(head|svg|script|nav|footer)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL))
    return set(re.findall(r"[A-Za-z-]+|\d[\d.]{2,}\d?", seen))


def described(**changes: Any) -> OddAnswer:
    return OddAnswer(200, DESCRIPTION | {"model": MODEL | changes})


def test_every_figure_changes_with_the_bundle(
    open_app: OpenApp, endpoint: OddEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision_mlops.flask_app.pages._SOON_S", 0.0)
    client = open_app()
    endpoint.description = described(evaluation=evaluation(CLASSES, 100))
    before = client.get("/model").text
    classes = ("dark", "pale", "white")
    endpoint.description = described(
        name="shades", version="8", id="9f8e7d6c5b4a", title="Greys", classes=list(classes), backbone="other-net",
        created="2027-05-06T07:08:09+00:00", data_fingerprint="e" * 64, git_commit="d" * 40, run_id="run-2",
        libraries={"python": "3.12.1"}, metrics={"test_accuracy": 0.61},
        evaluation=evaluation(classes, 600),
    )  # fmt: skip
    after = client.get("/model").text
    for told in ("Colours of things", "green", "mean-colour", "ffffffff", "cccccccc", "run-1", "0123456789ab"):
        assert told in before
        assert told not in after
    for told in ("Greys", "pale", "other-net", "eeeeeeee", "dddddddd", "run-2", "9f8e7d6c5b4a"):
        assert told in after
        assert told not in before
    numbers = [{text for text in figures(page) if text[0].isdigit()} for page in (before, after)]
    assert min(map(len, numbers)) >= 20
    assert numbers[0] & numbers[1] == set(), "a number is not that of the bundle"


def test_a_bundle_without_an_evaluation_says_so_in_words(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    page = open_app().get("/model")
    assert page.status_code == 200
    assert "evaluation" in page.text


def test_an_answer_of_another_model_renews_what_is_shown(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    client = open_app()
    assert "Colours of things" in client.get("/").text
    endpoint.description = described(id="9f8e7d6c5b4a", title="Shades of grey")
    assert "Shades of grey" not in client.get("/").text, "the description is remembered for a while"
    endpoint.always = OddAnswer(200, SCORES | {"model": {"name": "colours", "version": "8", "id": "9f8e7d6c5b4a"}})
    client.post("/api/classify", data=form(picture()))
    assert "Shades of grey" in client.get("/").text


TROUBLES = {
    "down": (OddAnswer(hang_up=True), "endpoint_down", "closed the connection"),
    "unauthorised": (OddAnswer(401, b""), "endpoint_unauthorised", "does not accept the key or identity of this app"),
    "throttled": (OddAnswer(429, b"", {"Retry-After": "17"}), "endpoint_throttled", "Try again in 17 s"),
    "not ready": (
        OddAnswer(503, {"error": {"code": "not_ready", "message": "the model is being loaded"}}),
        "endpoint_not_ready",
        "the model is being loaded",
    ),
    "nonsense": (OddAnswer(200, b"<html>"), "endpoint_nonsense", "is not that of a scoring endpoint"),
}


@pytest.mark.parametrize(("answer", "code", "words"), TROUBLES.values(), ids=TROUBLES)
def test_pages_say_what_is_wrong_and_go_on(
    open_app: OpenApp, endpoint: OddEndpoint, answer: OddAnswer, code: str, words: str
) -> None:
    endpoint.always = endpoint.description = answer
    client = open_app()
    for path in PAGES:
        page = client.get(path)
        assert page.status_code == 200
        assert words in page.text
    status = client.get("/api/status").json
    assert status is not None
    assert (status["alive"], status["problem"]["code"], status["model"]) == (False, code, None)
    refused = client.post("/api/classify", data=form(picture()))
    assert refused.json["error"]["code"] == code  # type: ignore[index]
    assert words in client.post("/", data=form(picture())).text
    assert client.get("/health").status_code == 200


def test_a_slow_endpoint_holds_up_the_first_page_only(
    open_app: OpenApp, endpoint: OddEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed_model, "_PATIENT_S", 0.3)
    monkeypatch.setattr(deployed_model, "_PROBLEM_S", 60)
    endpoint.description = OddAnswer(200, b"", pause=5)
    client = open_app()
    for path in ("/", *PAGES):
        assert "too slow" in client.get(path).text
    assert len(endpoint.asked) == 1


@pytest.mark.slow
def test_asking_for_the_limits_is_a_part_of_the_time_of_an_image(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    endpoint.description = endpoint.always = OddAnswer(200, b"", pause=30)
    started = time.monotonic()
    answer = open_app(TIMEOUT_S="1.5").post("/api/classify", data=form(picture()))
    assert (answer.status_code, answer.json["error"]["code"]) == (504, "endpoint_slow")  # type: ignore[index]
    assert time.monotonic() - started < 2.9, "not 1.5 seconds twice"


def test_what_was_known_is_shown_while_the_endpoint_is_down(
    open_app: OpenApp, endpoint: OddEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision_mlops.flask_app.pages._SOON_S", 0.0)
    monkeypatch.setattr(deployed_model, "_PROBLEM_S", 0.0)
    client = open_app()
    client.get("/model")
    endpoint.description = OddAnswer(401, b"")
    page = client.get("/model").text
    assert "Colours of things" in page
    assert "does not accept the key or identity of this app" in page
    endpoint.description = described(title="Back again")
    page = client.get("/model").text
    assert "Back again" in page
    assert "does not accept the key or identity of this app" not in page


def test_an_older_endpoint_is_alive_and_classifies(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    endpoint.description = OddAnswer(400, {"error": {"code": "bad_json", "message": "JSON must be ..."}})
    client = open_app()
    status = client.get("/api/status").json
    assert status is not None
    assert (status["alive"], status["problem"]["code"]) == (True, "endpoint_undescribed")
    assert client.post("/api/classify", data=form(picture())).status_code == 200


def test_health_does_not_ask_the_endpoint(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    assert open_app().get("/health").status_code == 200
    assert endpoint.asked == []


def test_without_javascript_an_upload_shows_its_result(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    endpoint.always = OddAnswer(200, SCORES | {"heat_map": "aGVhdA=="})
    page = open_app().post("/", data=form(picture(), "my <photo>.png")).text
    for told in (
        "green",
        "75.0",
        "25.0",
        "colours",
        "data:image/png;base64,aGVhdA==",
        "data:image/jpeg;base64,",
        "&lt;photo&gt;",
    ):
        assert told in page
    assert endpoint.images[0].body == picture()


def test_the_answer_for_the_script_is_that_of_the_endpoint(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    answer = open_app().post("/api/classify", data=form(picture(), explain="true")).json
    assert answer is not None
    assert {key: answer[key] for key in SCORES} == SCORES
    assert answer["roundtrip_ms"] > 0
    assert answer["scaled"] is False
    (asked,) = endpoint.images
    assert asked.path.endswith("?explain=true")
    assert len(asked.headers["X-Request-Id"]) == 32


@pytest.mark.parametrize("size", [60_000, 70_000, 200_000, 3_000_000])
def test_uploads_of_every_size_reach_the_endpoint(open_app: OpenApp, endpoint: OddEndpoint, size: int) -> None:
    endpoint.description = OddAnswer(200, DESCRIPTION | {"limits": {"body_bytes": 20 * 2**20, "images": 1}})
    data = picture() + np.random.default_rng(size).bytes(size)
    assert open_app().post("/api/classify", **large(data)).status_code == 200
    assert endpoint.images[0].body == data


def test_an_image_above_the_limit_of_the_endpoint_is_scaled_down(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    endpoint.description = OddAnswer(200, DESCRIPTION | {"limits": {"body_bytes": 100_000, "images": 1}})
    data = saved(noise((900, 900)))
    answer = open_app().post("/api/classify", **large(data)).json
    assert answer is not None
    assert answer.get("scaled") is True, answer
    (asked,) = endpoint.images
    assert len(asked.body) <= 100_000
    assert asked.headers["Content-Type"] == "image/jpeg"


def test_latencies_of_the_last_minutes_are_counted(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    client = open_app()
    endpoint.first = [OddAnswer(500, b""), OddAnswer(422, {"error": {"code": "truncated", "message": "cut"}})]
    for _ in range(4):
        client.post("/api/classify", data=form(picture()))
    status = client.get("/api/status").json
    assert status is not None
    summary = status["summary"]
    # A description, and four images; one that is refused is no failure of the endpoint.
    assert (summary["requests"], summary["failures"], status["circuit"]) == (5, 1, "closed")
    assert 0 < summary["median_ms"] <= summary["p95_ms"]


def test_text_of_the_endpoint_is_no_markup(open_app: OpenApp, endpoint: OddEndpoint) -> None:
    evil = "<img src=x onerror=alert(1)>"
    endpoint.description = described(title=evil, classes=[evil, "b"], backbone=evil, version=evil)
    endpoint.always = OddAnswer(200, SCORES | {"predictions": [{"label": evil, "probability": 1.0}]})
    client = open_app()
    pages = [client.get(path).text for path in PAGES] + [client.post("/", data=form(picture())).text]
    assert not [page for page in pages if "<img src=x" in page]
    assert "&lt;img src=x" in pages[-1]


def test_samples_are_listed_and_others_are_not(open_app: OpenApp, tmp_path: Path) -> None:
    (tmp_path / "apple.png").write_bytes(picture())
    (tmp_path / "notes.txt").write_text("notes")
    page = open_app(SAMPLES=str(tmp_path)).get("/").text
    assert "/samples/apple.png" in page
    assert "notes.txt" not in page


def test_without_samples_there_is_no_gallery(open_app: OpenApp, tmp_path: Path) -> None:
    assert "/samples/" not in open_app().get("/").text
    client = open_app(SAMPLES=str(tmp_path))
    tmp_path.rmdir()
    assert "/samples/" not in client.get("/").text, "the folder may go while the app runs"


@pytest.mark.parametrize("path", [*PAGES[1:], "/health", "/api/status"])
def test_a_page_is_found_with_a_slash_behind_it_too(open_app: OpenApp, path: str) -> None:
    assert open_app().get(f"{path}/").status_code == 200
