"""Whatever an endpoint does, the web frontend says in words which of its troubles it is, and in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import SecretStr
from testing.support.odd_endpoint import DESCRIPTION, MODEL, SCORES, OddAnswer, OddEndpoint, odd_endpoint

from vision_mlops.core.errors import AzureError
from vision_mlops.flask_app.app_errors import EndpointError
from vision_mlops.flask_app.app_settings import AppSettings
from vision_mlops.flask_app.circuit_breaker import CircuitBreaker
from vision_mlops.flask_app.scoring_endpoint import ATTEMPTS, ScoringEndpoint

IMAGE = b"\xff\xd8\xff\xe0 an image"


@pytest.fixture
def endpoint() -> Iterator[OddEndpoint]:
    with odd_endpoint() as endpoint:
        yield endpoint


_MADE: list[ScoringEndpoint] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the clients of a test."""
    yield
    while _MADE:
        _MADE.pop().close()


class Client:
    """A client that takes down for how long it would have waited."""

    def __init__(self, url: str, timeout_s: float = 2.0, **more: Any) -> None:
        self.waited: list[float] = []
        token = more.pop("token", None)
        settings = AppSettings(endpoint=url, timeout_s=timeout_s, **more)
        self.endpoint = ScoringEndpoint(settings, token, self.waited.append, CircuitBreaker(failures=1000))
        _MADE.append(self.endpoint)

    def classify(self, **more: Any) -> dict[str, Any]:
        return self.endpoint.classify(IMAGE, "image/jpeg", **more)

    def failure(self) -> EndpointError:
        with pytest.raises(EndpointError) as caught:
            self.classify()
        assert caught.value.message.endswith(".")
        return caught.value


@pytest.fixture
def client(endpoint: OddEndpoint) -> Client:
    return Client(endpoint.url)


def error(code: str, message: str = "so it is") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def test_an_image_is_sent_as_it_is_and_the_answer_comes_back(endpoint: OddEndpoint, client: Client) -> None:
    assert client.classify() == SCORES
    (asked,) = endpoint.images
    assert (asked.body, asked.headers["Content-Type"], asked.path) == (IMAGE, "image/jpeg", "/score")
    assert "Authorization" not in asked.headers


def test_a_heat_map_and_the_id_of_the_request_are_asked_for(endpoint: OddEndpoint, client: Client) -> None:
    endpoint.always = OddAnswer(200, SCORES | {"heat_map": "aGVhdA=="})
    assert client.classify(explain=True, request_id="abc")["heat_map"] == "aGVhdA=="
    (asked,) = endpoint.images
    assert asked.path == "/score?explain=true"
    assert asked.headers["X-Request-Id"] == "abc"


MANAGED = "ms-azureml-model-error-statuscode"


def one(probability: float) -> dict[str, Any]:
    """Scores of one class."""
    return SCORES | {"predictions": [{"label": "a", "probability": probability}]}


TROUBLES: dict[str, tuple[OddAnswer, int, str, int]] = {
    # answer, status and code of the error, how often it was asked
    "hangs up": (OddAnswer(hang_up=True), 503, "endpoint_down", ATTEMPTS),
    "cut off": (OddAnswer(200, SCORES, missing=10), 503, "endpoint_down", ATTEMPTS),
    "bad gateway": (OddAnswer(502, b"<html>bad gateway</html>"), 503, "endpoint_down", ATTEMPTS),
    "unavailable": (OddAnswer(503, b"no healthy upstream"), 503, "endpoint_down", ATTEMPTS),
    "loading": (OddAnswer(503, error("not_ready", "the model is being loaded")), 503, "endpoint_not_ready", 1),
    "ending": (OddAnswer(503, error("draining")), 503, "endpoint_not_ready", 1),
    "server's timeout": (OddAnswer(503, error("timeout")), 504, "endpoint_slow", 1),
    "gateway's timeout": (OddAnswer(504, b""), 504, "endpoint_slow", 1),
    "managed timeout": (OddAnswer(424, b"", {MANAGED: "408"}), 504, "endpoint_slow", 1),
    "no key": (OddAnswer(401, error("unauthorised")), 502, "endpoint_unauthorised", 1),
    "forbidden": (OddAnswer(403, b"<html>"), 502, "endpoint_unauthorised", 1),
    "throttled for long": (OddAnswer(429, b"", {"Retry-After": "30"}), 429, "endpoint_throttled", 1),
    "throttled": (OddAnswer(429, error("too_many_requests"), {"Retry-After": "1"}), 429, "endpoint_throttled", ATTEMPTS),
    "throttled, no time": (OddAnswer(429, b""), 429, "endpoint_throttled", ATTEMPTS),
    "managed throttles": (OddAnswer(424, b"", {MANAGED: "429"}), 429, "endpoint_throttled", ATTEMPTS),
    "crashes": (OddAnswer(500, error("internal")), 502, "endpoint_failed", 1),
    "another site": (OddAnswer(404, b"<html>not found</html>"), 502, "endpoint_nonsense", 1),
    "no scoring": (OddAnswer(405, b""), 502, "endpoint_nonsense", 1),
    "redirects": (OddAnswer(302, b"", {"Location": "http://127.0.0.1:9/"}), 502, "endpoint_nonsense", 1),
    "page": (OddAnswer(200, b"<!doctype html><title>Sign in</title>"), 502, "endpoint_nonsense", 1),
    "half of the JSON": (OddAnswer(200, b'{"predictions": [{"label": "gr'), 502, "endpoint_nonsense", 1),
    "nothing": (OddAnswer(200, b""), 502, "endpoint_nonsense", 1),
    "null": (OddAnswer(200, b"null"), 502, "endpoint_nonsense", 1),
    "list": (OddAnswer(200, [SCORES]), 502, "endpoint_nonsense", 1),
    "no predictions": (OddAnswer(200, SCORES | {"predictions": []}), 502, "endpoint_nonsense", 1),
    "other shape": (OddAnswer(200, {"predictions": ["green"]}), 502, "endpoint_nonsense", 1),
    "no probability": (OddAnswer(200, one(7)), 502, "endpoint_nonsense", 1),
    "not a number": (OddAnswer(200, one(float("nan"))), 502, "endpoint_nonsense", 1),
    "no base64": (OddAnswer(200, SCORES | {"heat_map": "\"><script>"}), 502, "endpoint_nonsense", 1),
    "not the image's type": (OddAnswer(415, error("not_an_image")), 415, "not_an_image", 1),
    "image too large": (OddAnswer(413, error("image_too_large")), 413, "image_too_large", 1),
    "proxy's limit": (OddAnswer(413, b"<html>"), 413, "image_too_large", 1),
    "damaged": (OddAnswer(422, error("truncated")), 422, "truncated", 1),
    "managed, damaged": (OddAnswer(424, error("truncated"), {MANAGED: "422"}), 422, "truncated", 1),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "status", "code", "times"), TROUBLES.values(), ids=TROUBLES)
def test_each_trouble_has_its_name(
    endpoint: OddEndpoint, client: Client, answer: OddAnswer, status: int, code: str, times: int
) -> None:
    endpoint.always = answer
    failure = client.failure()
    assert (failure.status, failure.code, len(endpoint.images)) == (status, code, times)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{free.getsockname()[1]}/score")
        assert client.failure().code == "endpoint_down"
        assert len(client.waited) == ATTEMPTS - 1


def test_a_name_that_does_not_exist_is_down_too() -> None:
    assert Client("http://nobody.invalid/score").failure().code == "endpoint_down"


def test_no_address_at_all_names_the_setting() -> None:
    failure = Client("").failure()
    assert failure.code == "endpoint_missing"
    assert "MLOPS_APP_ENDPOINT" in failure.message


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [OddAnswer(200, b"", pause=3), OddAnswer(200, SCORES, pause=0.15)], ids=["silent", "drips"]
)
def test_a_slow_endpoint_is_given_up_in_time_and_not_asked_again(endpoint: OddEndpoint, answer: OddAnswer) -> None:
    client = Client(endpoint.url, timeout_s=0.4)
    endpoint.always = answer
    started = time.monotonic()
    failure = client.failure()
    assert time.monotonic() - started < 1
    assert (failure.code, failure.status, len(endpoint.images)) == ("endpoint_slow", 504, 1)
    assert "0.4 s" in failure.message


def test_an_answer_without_end_is_cut_off(endpoint: OddEndpoint, client: Client) -> None:
    endpoint.always = OddAnswer(200, b" " * (17 * 2**20))
    assert client.failure().code == "endpoint_nonsense"


@pytest.mark.parametrize("answer", [OddAnswer(hang_up=True), OddAnswer(502, b""), OddAnswer(429, b"")])
def test_a_moment_of_trouble_is_not_noticed(endpoint: OddEndpoint, client: Client, answer: OddAnswer) -> None:
    endpoint.first = [answer]
    assert client.classify() == SCORES
    assert len(endpoint.images) == 2


def test_a_connection_that_was_closed_meanwhile_is_made_anew(endpoint: OddEndpoint, client: Client) -> None:
    endpoint.first = [OddAnswer(200, SCORES), OddAnswer(hang_up=True)]
    assert client.classify() == client.classify() == SCORES


def test_the_endpoint_says_how_long_to_wait(endpoint: OddEndpoint) -> None:
    client = Client(endpoint.url, timeout_s=5)
    endpoint.first = [OddAnswer(429, b"", {"Retry-After": "2"})]
    client.classify()
    assert client.waited == [2.0]


def test_there_is_no_waiting_beyond_the_time_of_the_request(endpoint: OddEndpoint) -> None:
    client = Client(endpoint.url, timeout_s=1.5)
    endpoint.always = OddAnswer(429, b"", {"Retry-After": "2"})
    assert client.failure().retry_after_s == 2
    assert client.waited == []


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("30", 30, 30), ("99999999", 3600, 3600), ("a date", 90, 100)],
)
def test_a_long_wait_is_left_to_the_user(
    endpoint: OddEndpoint, client: Client, header: str, least: float, most: float
) -> None:
    told = formatdate(time.time() + 100, usegmt=True) if header == "a date" else header
    endpoint.always = OddAnswer(429, b"", {"Retry-After": told})
    failure = client.failure()
    assert failure.retry_after_s is not None
    assert least <= failure.retry_after_s <= most
    assert client.waited == []


@pytest.mark.parametrize("header", ["soon", "-1", "1e3", "٣"])
def test_a_wait_that_cannot_be_read_is_none(endpoint: OddEndpoint, client: Client, header: str) -> None:
    endpoint.always = OddAnswer(429, b"", {"Retry-After": header.encode().decode("latin-1")})
    assert client.failure().retry_after_s is None


def test_what_the_server_says_about_an_image_is_passed_on(endpoint: OddEndpoint, client: Client) -> None:
    endpoint.always = OddAnswer(422, error("too_large", "image: it has 400 megapixels"))
    assert "it has 400 megapixels" in client.failure().message
    endpoint.always = OddAnswer(422, error("truncated", "image: cannot be decoded"))
    assert client.failure().message == "The image is incomplete and cannot be decoded."


def test_the_key_is_sent_and_told_to_nobody(endpoint: OddEndpoint) -> None:
    endpoint.key = "of the endpoint"
    client = Client(endpoint.url, endpoint_key=SecretStr("of the endpoint"))
    assert client.classify() == SCORES
    endpoint.key = "another one"
    failure = client.failure()
    assert failure.code == "endpoint_unauthorised"
    assert "of the endpoint" not in failure.message + repr(client.endpoint.__dict__)


def test_a_token_is_sent_where_the_app_signs_in(endpoint: OddEndpoint) -> None:
    endpoint.key = "token"
    client = Client(endpoint.url, endpoint_auth="identity", token=lambda: "token")
    assert client.classify() == SCORES


def test_a_sign_in_that_fails_is_no_outage(endpoint: OddEndpoint) -> None:
    def refuse() -> str:
        raise AzureError("sign-in: no", "do")

    failure = Client(endpoint.url, endpoint_auth="identity", token=refuse).failure()
    assert (failure.code, failure.outage, endpoint.asked) == ("endpoint_unauthorised", False, [])


def test_a_model_describes_itself(client: Client) -> None:
    found = client.endpoint.describe(2.0)
    assert found.model.model_dump(exclude_none=True) == {
        key: value for key, value in MODEL.items() if value is not None
    }
    assert found.limits.body_bytes == DESCRIPTION["limits"]["body_bytes"]


def test_an_older_server_cannot_describe_its_model(endpoint: OddEndpoint, client: Client) -> None:
    endpoint.description = OddAnswer(400, error("bad_json", "JSON must be ..."))
    with pytest.raises(EndpointError) as caught:
        client.endpoint.describe(2.0)
    assert caught.value.code == "endpoint_undescribed"


BAD_EVALUATIONS: dict[str, Any] = {
    "text": "good", "no counts": {"split": "test", "accuracy": 1.0}, "list": [], "negative": {"images": -1},
}  # fmt: skip


@pytest.mark.parametrize("evaluation", BAD_EVALUATIONS.values(), ids=BAD_EVALUATIONS)
def test_an_evaluation_of_another_shape_is_nonsense(endpoint: OddEndpoint, client: Client, evaluation: Any) -> None:
    endpoint.description = OddAnswer(200, DESCRIPTION | {"model": MODEL | {"evaluation": evaluation}})
    with pytest.raises(EndpointError) as caught:
        client.endpoint.describe(2.0)
    assert caught.value.code == "endpoint_nonsense"


def test_after_outages_in_a_row_the_endpoint_is_left_alone(endpoint: OddEndpoint) -> None:
    settings = AppSettings(endpoint=endpoint.url, timeout_s=2)
    scoring = ScoringEndpoint(settings, sleep=lambda _: None, breaker=CircuitBreaker(failures=2, pause_s=0.2))
    _MADE.append(scoring)
    endpoint.always = OddAnswer(500, b"")
    codes = []
    for _ in range(4):
        with pytest.raises(EndpointError) as caught:
            scoring.classify(IMAGE, "image/jpeg")
        codes.append((caught.value.status, caught.value.code))
    assert codes == [(502, "endpoint_failed")] * 2 + [(503, "endpoint_failed")] * 2
    assert len(endpoint.images) == 2
    endpoint.always = OddAnswer(200, SCORES)
    time.sleep(0.25)
    assert scoring.classify(IMAGE, "image/jpeg") == SCORES


def test_many_threads_share_one_client(endpoint: OddEndpoint, client: Client) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(client.classify())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SCORES] * 20
    assert client.endpoint.latencies.summary()["requests"] == 20
