"""The scoring endpoint, as seen by the web frontend: what is asked of it, and in words what went wrong.

A request is sent again only where that makes sense within its time: scoring changes nothing, so a lost connection is no
reason to give up, and neither is an endpoint that asks for a moment's patience. An endpoint that is too slow is not asked
again, and after some outages in a row the circuit breaker answers in its place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from vision_mlops.azure.trusted_authorities import trusting_context
from vision_mlops.core.errors import MlopsError
from vision_mlops.core.listening import LOOPBACK
from vision_mlops.core.retry_after import wait_asked_for
from vision_mlops.flask_app.app_errors import (
    AppError,
    BusyEndpointError,
    EndpointError,
    EndpointOutageError,
    LostConnectionError,
)
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

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class ScoringEndpoint:
    """A client with one pool of connections, for any number of threads.

    Args:
        settings: Address, sign-in and timeout.
        token: Gives a token where the endpoint is signed in to with an identity.
        sleep: Waits some seconds between attempts.
    """

    def __init__(
        self,
        settings: AppSettings,
        token: Callable[[], str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.url = settings.endpoint
        self.latencies = Latencies()
        self.breaker = breaker or CircuitBreaker()
        self._settings, self._token, self._sleep = settings, token, sleep
        self._client = httpx.Client(
            verify=trusting_context(self.url),
            limits=httpx.Limits(
                max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=30
            ),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "vision-mlops-app"},
            follow_redirects=False,
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,  # else by the proxy that the environment names
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
        """Have one image scored.

        Args:
            image: Encoded.
            media_type: Such as ``image/jpeg``.
            explain: Whether a heat map is wanted.
            request_id: Of the request, so that the endpoint's log and corrections name the same; may be empty.
            since: Moment of ``time.monotonic()`` at which the wait for the answer has begun; now where not given.

        Returns:
            The answer of the endpoint.

        Raises:
            EndpointError: in words for people, why not.
        """
        params = {"explain": "true"} if explain else {}
        headers = {"Content-Type": media_type} | ({"X-Request-Id": request_id} if request_id else {})
        answer = self._ask(ScoringAnswer, image, headers, params, self._settings.timeout_s, since)
        return answer.model_dump(exclude_none=True)

    def describe(self, seconds: float) -> DescribeAnswer:
        """What the deployed model says about itself, asked for so many seconds at most. Raises EndpointError."""
        headers = {"Content-Type": "application/json"}
        try:
            return self._ask(DescribeAnswer, b'{"describe": true}', headers, {}, min(seconds, self._settings.timeout_s))
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
            sleep=self._sleep,
            reraise=True,
        )
        with self.breaker.attempt():
            exchange = partial(self._exchange, kind, body, headers | self._signed_in(), params, deadline, seconds)
            answer: AnswerT = retrying(self._timed, exchange)
            return answer

    def _timed(self, exchange: Callable[[], AnswerT]) -> AnswerT:
        """What an exchange gives; its latency is kept."""
        started = time.perf_counter()
        good = False
        try:
            answer = exchange()
            good = True
        except EndpointError as error:
            good = error.status in _IMAGE_STATUSES
            raise
        finally:
            self.latencies.add((time.perf_counter() - started) * 1000, ok=good)
        return answer

    def _exchange(
        self,
        kind: type[AnswerT],
        body: bytes,
        headers: dict[str, str],
        params: dict[str, str],
        deadline: float,
        seconds: float,
    ) -> AnswerT:
        left = max(0.05, deadline - time.monotonic())
        timeout = httpx.Timeout(left, connect=min(left, _CONNECT_S))
        try:
            with self._client.stream(
                "POST", self.url, content=body, headers=headers, params=params or None, timeout=timeout
            ) as response:
                content = _read(response, deadline, seconds)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise LostConnectionError(
                503, "endpoint_down", "The scoring endpoint cannot be reached: it is down, or its address is wrong."
            ) from error
        except httpx.TimeoutException as error:
            raise _slow(seconds) from error
        except httpx.TransportError as error:
            raise LostConnectionError(
                503, "endpoint_down", "The scoring endpoint closed the connection before it responded."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _nonsense("cannot be understood") from error
        return _understood(kind, response, content, seconds)

    def _signed_in(self) -> dict[str, str]:
        """Headers that open the endpoint."""
        if self._settings.auth == "none":
            return {}
        secret = self._settings.endpoint_key.get_secret_value()
        if self._settings.auth == "identity":
            try:
                assert self._token is not None
                secret = self._token()
            except MlopsError as error:
                raise EndpointError(
                    502, "endpoint_unauthorised", "This app cannot sign in to the scoring endpoint with its identity."
                ) from error
        return {"Authorization": f"Bearer {secret}"}


def _read(response: httpx.Response, deadline: float, seconds: float) -> bytes:
    """The body, within bounds of size and time: an endpoint may send a byte a second."""
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
        return BusyEndpointError(429, "endpoint_throttled", f"The scoring endpoint is busy.{patience}", wait)
    if status in _IMAGE_STATUSES and code:
        return EndpointError(status, code, f"The scoring endpoint refuses the image: {_sentence(message)}.")
    if status == 413:
        return EndpointError(413, "image_too_large", "The image is larger than the scoring endpoint accepts.")
    if status in (408, 504) or code == "timeout":
        return _slow(seconds)
    if status == 503 and code in ("not_ready", "draining"):
        return EndpointOutageError(
            503,
            "endpoint_not_ready",
            f"The scoring endpoint is not ready: {_sentence(message)}.",
            wait_asked_for(response.headers, _LONGEST_WAIT_S),
        )
    if status in (502, 503):
        return LostConnectionError(
            503, "endpoint_down", f"Nothing responds at the address of the scoring endpoint (HTTP {status}).",
            wait_asked_for(response.headers, _LONGEST_WAIT_S),
        )  # fmt: skip
    if status >= 500:
        return EndpointOutageError(502, "endpoint_failed", f"The scoring endpoint failed (HTTP {status}).")
    return _nonsense(f"is HTTP {status}, which no scoring endpoint sends")


def _error_of(content: bytes) -> tuple[str, str]:
    """Code and message of an error of the scoring API; empty where it is something else."""
    try:
        error = json.loads(content)["error"]
        code, message = error["code"], error["message"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return "", ""
    return (code[:80], message[:600]) if isinstance(code, str) and isinstance(message, str) else ("", "")


def _sentence(message: str) -> str:
    """A message of the scoring API without what the pages say themselves."""
    return message.removeprefix("image: ").rstrip(". ")


def _slow(seconds: float) -> EndpointError:
    return EndpointOutageError(
        504, "endpoint_slow", f"The scoring endpoint is too slow: it did not respond within {seconds:g} s."
    )


def _nonsense(what: str) -> EndpointError:
    return EndpointOutageError(
        502, "endpoint_nonsense", f"The response {what}: check the address of the scoring endpoint."
    )


def _may_retry(error: BaseException, deadline: float) -> bool:
    if not isinstance(error, EndpointError) or not error.retriable:
        return False
    wait = error.retry_after_s or 0.0
    return wait <= LONGEST_PAUSE_S and time.monotonic() + wait < deadline


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, AppError) else None
    return asked if asked is not None else 0.1 * 3 ** (state.attempt_number - 1)
