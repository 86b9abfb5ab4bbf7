"""The scoring endpoint, as seen by the web frontend: what is asked of it, and in words what went wrong.

A request is sent again only where that makes sense within its time: scoring changes nothing, so a lost connection is no
reason to give up, and neither is an endpoint that asks for a moment's patience. An endpoint that is too slow is not asked
again, and after some outages in a row the circuit breaker answers in its place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from vision_mlops.azure.trusted_authorities import trusting_context
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.listening import is_on_this_machine
from vision_mlops.core.retry_after import wait_asked_for
from vision_mlops.flask_app.app_errors import AppError, EndpointError
from vision_mlops.flask_app.app_settings import AppSettings
from vision_mlops.flask_app.circuit_breaker import CircuitBreaker
from vision_mlops.flask_app.latencies import Latencies
from vision_mlops.flask_app.scoring_answers import DescribeAnswer, ScoringAnswer

ATTEMPTS = 3
UNDESCRIBED = "endpoint_undescribed"
"""Code of the error where an endpoint scores images, and does not describe its model."""
LONGEST_PAUSE_S = 2.0
"""An endpoint that asks for more patience than this is not waited for: the user is told."""
_CONNECT_S = 3.0
_LONGEST_WAIT_S = 3600.0
_ANSWER_BYTES = 16 * 2**20
_CONNECTIONS = 64
_MODEL_STATUS = "ms-azureml-model-error-statuscode"
_IMAGE_STATUSES = {400: "bad_request", 413: "image_too_large", 415: "not_an_image", 422: "image_refused"}
_DAMAGED = {
    "truncated": "The image is incomplete and cannot be decoded.",
    "corrupt": "The image is damaged and cannot be decoded.",
}

AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(eq=False)
class ScoringEndpoint:
    """A client with one pool of connections, for any number of threads.

    Args:
        settings: Address, sign-in and timeout.
        token: Gives a token if the sign-in is with an identity.
        sleep: Waits some seconds between attempts.
        breaker: Keeps requests from a failing endpoint.
    """

    settings: AppSettings
    token: Callable[[], str] | None = None
    sleep: Callable[[float], None] = time.sleep
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    latencies: Latencies = field(default_factory=Latencies, init=False)

    def __post_init__(self) -> None:
        self.url = self.settings.endpoint
        self._client = httpx.Client(
            verify=trusting_context(self.url),
            limits=httpx.Limits(
                max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=30
            ),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "vision-mlops-app"},
            follow_redirects=False,
            trust_env=not is_on_this_machine(self.url),  # else by the proxy that the environment names
        )

    def classify(
        self,
        image: bytes,
        media_type: str,
        *,
        explain: bool = False,
        request_id: str = "",
        since: float | None = None,
    ) -> dict[str, Any]:
        """Score one image.

        Args:
            image: Encoded.
            media_type: Such as ``image/jpeg``.
            explain: Whether a heat map is wanted.
            request_id: Id of the request, for the log of the endpoint and for corrections; may be empty.
            since: Start of the wait for the response, by ``time.monotonic()``; now if not given.

        Returns:
            The response of the endpoint.

        Raises:
            EndpointError: in words for people, why not.
        """
        params = {"explain": "true"} if explain else {}
        headers = {"Content-Type": media_type} | ({"X-Request-Id": request_id} if request_id else {})
        answer = self._ask(ScoringAnswer, image, headers, params, self.settings.timeout_s, since)
        return answer.model_dump(exclude_none=True)

    def describe(self, seconds: float) -> DescribeAnswer:
        """Ask the deployed model about itself, for at most some seconds. Raises EndpointError."""
        headers = {"Content-Type": "application/json"}
        try:
            return self._ask(DescribeAnswer, b'{"describe": true}', headers, {}, min(seconds, self.settings.timeout_s))
        except EndpointError as error:
            if error.status not in _IMAGE_STATUSES:
                raise
            message = "The scoring endpoint runs an older release: it scores images, but does not describe its model."
            raise EndpointError(502, UNDESCRIBED, message) from error

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _ask(
        self,
        kind: type[AnswerT],
        body: bytes,
        headers: dict[str, str],
        params: dict[str, str],
        seconds: float,
        since: float | None = None,
    ) -> AnswerT:
        if not self.url:
            raise EndpointError(
                503, "endpoint_missing", "No scoring endpoint is configured: set MLOPS_APP_ENDPOINT to its address."
            )
        deadline = (time.monotonic() if since is None else since) + seconds
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception(lambda error: _may_retry(error, deadline)),
            wait=_pause,
            sleep=self.sleep,
            reraise=True,
        )
        with self.breaker.attempt():
            sent = {"content": body, "headers": headers | self._signed_in(), "params": params or None}
            answer: AnswerT = retrying(self._exchange, kind, sent, deadline, seconds)
            return answer

    def _exchange(self, kind: type[AnswerT], sent: dict[str, Any], deadline: float, seconds: float) -> AnswerT:
        """Send a request once, and keep its latency."""
        started = time.perf_counter()
        good = False
        try:
            response, content = self._response(sent, deadline, seconds)
            answer = _understood(kind, response, content, seconds)
            good = True
        except EndpointError as error:
            good = error.status in _IMAGE_STATUSES
            raise
        finally:
            self.latencies.add((time.perf_counter() - started) * 1000, ok=good)
        return answer

    def _response(self, sent: dict[str, Any], deadline: float, seconds: float) -> tuple[httpx.Response, bytes]:
        left = max(0.05, deadline - time.monotonic())
        timeout = httpx.Timeout(left, connect=min(left, _CONNECT_S))
        try:
            with self._client.stream("POST", self.url, timeout=timeout, **sent) as response:
                return response, _read(response, deadline, seconds)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _down("The scoring endpoint cannot be reached: it is down, or its address is wrong.") from error
        except httpx.TimeoutException as error:
            raise _slow(seconds) from error
        except httpx.TransportError as error:
            raise _down("The scoring endpoint closed the connection before it responded.") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _nonsense("cannot be understood") from error

    def _signed_in(self) -> dict[str, str]:
        """Return the headers that sign in to the endpoint."""
        if self.settings.auth == "none":
            return {}
        secret = self.settings.endpoint_key.get_secret_value()
        if self.settings.auth == "identity":
            try:
                assert self.token is not None
                secret = self.token()
            except MlopsError as error:
                raise EndpointError(
                    502, "endpoint_unauthorised", "This app cannot sign in to the scoring endpoint with its identity."
                ) from error
        return {"Authorization": f"Bearer {secret}"}


def _read(response: httpx.Response, deadline: float, seconds: float) -> bytes:
    """Read the body within bounds of size and time: an endpoint may send a byte a second."""
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > _ANSWER_BYTES:
            raise _nonsense("is endless")
        if time.monotonic() > deadline:
            raise _slow(seconds)
    return bytes(content)


def _understood(kind: type[AnswerT], response: httpx.Response, content: bytes, seconds: float) -> AnswerT:
    # Azure ML answers 424 for whatever but 200 a container says, and tells what that was.
    told = response.headers.get(_MODEL_STATUS, "")
    status = int(told) if told.isascii() and told.isdigit() and len(told) == 3 else response.status_code
    if status != 200:
        raise _refused(status, response, content, seconds)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise _nonsense("is not that of a scoring endpoint") from error


def _refused(status: int, response: httpx.Response, content: bytes, seconds: float) -> EndpointError:
    code, message = _error_of(content)
    if status in (401, 403):
        return EndpointError(
            502, "endpoint_unauthorised", "The scoring endpoint does not accept the key or identity of this app."
        )
    if status == 429:
        wait = wait_asked_for(response.headers, _LONGEST_WAIT_S)
        patience = f" Try again in {wait:.0f} s." if wait else " Try again in a moment."
        message = f"The scoring endpoint is busy.{patience}"
        return EndpointError(429, "endpoint_throttled", message, wait, retriable=True)
    if status in _IMAGE_STATUSES and code:
        refusal = f"The scoring endpoint refuses the image: {_sentence(message)}."
        return EndpointError(status, code, _DAMAGED.get(code, refusal))
    if status == 413:
        return EndpointError(413, "image_too_large", "The image is larger than the scoring endpoint accepts.")
    if status in (408, 504) or code == "timeout":
        return _slow(seconds)
    if status == 503 and code in ("not_ready", "draining"):
        told = f"The scoring endpoint is not ready: {_sentence(message)}."
        wait = wait_asked_for(response.headers, _LONGEST_WAIT_S)
        return EndpointError(503, "endpoint_not_ready", told, wait, outage=True)
    if status in (502, 503):
        told = f"Nothing responds at the address of the scoring endpoint (HTTP {status})."
        return _down(told, wait_asked_for(response.headers, _LONGEST_WAIT_S))
    if status >= 500:
        return EndpointError(502, "endpoint_failed", f"The scoring endpoint failed (HTTP {status}).", outage=True)
    return _nonsense(f"is HTTP {status}, which no scoring endpoint sends")


def _error_of(content: bytes) -> tuple[str, str]:
    """Return code and message of an error of the scoring API; empty if it is something else."""
    try:
        error = json.loads(content)["error"]
        code, message = error["code"], error["message"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return "", ""
    return (code[:80], message[:600]) if isinstance(code, str) and isinstance(message, str) else ("", "")


def _sentence(message: str) -> str:
    """Return a message of the scoring API without what the pages say themselves."""
    return message.removeprefix("image: ").rstrip(". ")


def _down(message: str, retry_after_s: float | None = None) -> EndpointError:
    """Return the error of a connection that was not made or broke: scoring changes nothing, so it may be tried again."""
    return EndpointError(503, "endpoint_down", message, retry_after_s, outage=True, retriable=True)


def _slow(seconds: float) -> EndpointError:
    message = f"The scoring endpoint is too slow: it did not respond within {seconds:g} s."
    return EndpointError(504, "endpoint_slow", message, outage=True)


def _nonsense(what: str) -> EndpointError:
    message = f"The response {what}: check the address of the scoring endpoint."
    return EndpointError(502, "endpoint_nonsense", message, outage=True)


def _may_retry(error: BaseException, deadline: float) -> bool:
    if not isinstance(error, EndpointError) or not error.retriable:
        return False
    wait = error.retry_after_s or 0.0
    return wait <= LONGEST_PAUSE_S and time.monotonic() + wait < deadline


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, AppError) else None
    return asked if asked is not None else 0.1 * 3 ** (state.attempt_number - 1)
