"""Calls to one account of Custom Vision: sign-in, rate limit, retries, and errors in one line."""

from __future__ import annotations

import socket
import ssl
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from vision_mlops import __version__
from vision_mlops.azure.proxy_check import silent_proxy
from vision_mlops.azure.trusted_authorities import trusting_context
from vision_mlops.benchmark.custom_vision.call_limiter import CallLimiter
from vision_mlops.benchmark.custom_vision.service_account import ServiceAccount
from vision_mlops.benchmark.custom_vision.service_errors import (
    NOT_UNIQUE,
    BusyError,
    GaveUpError,
    VisionError,
    refusal,
    unreached,
)
from vision_mlops.core.listening import LOOPBACK

T = TypeVar("T")
Query = Mapping[str, str]

ATTEMPTS = 6
_LONGEST_PAUSE_S = 60.0
_TIMEOUT = httpx.Timeout(60.0, connect=10.0, write=300.0, read=300.0)
"""A batch of 64 images takes its time, to be sent as well as to be taken."""


class VisionClient:
    """Calls to one account, for one thread.

    Args:
        account: Address and sign-in.
        limiter: Keeps within the calls a second that the account allows.
        say: Is told once per call that it waits.
    """

    def __init__(self, account: ServiceAccount, limiter: CallLimiter, say: Callable[[str], None]) -> None:
        self._account, self._limiter, self._say = account, limiter, say
        self._http = httpx.Client(
            verify=trusting_context(account.url),
            timeout=_TIMEOUT,
            headers={"Accept": "application/json", "User-Agent": f"vision-mlops/{__version__}"},
            follow_redirects=False,
            trust_env=urlsplit(account.url).hostname not in LOOPBACK,
        )
        weakref.finalize(self, self._http.close)  # a contestant is not told when it is done

    def call(self, method: str, path: str, *, query: Query | None = None, body: Any = None) -> Any:
        """The JSON of the response to a call that may be repeated; None where there is none.

        It is sent again after throttling, faults of the service and lost connections, and never otherwise.

        Args:
            method: Such as ``GET``.
            path: Below the service.
            query: Parameters.
            body: Sent as JSON; bytes are sent as they are.

        Raises:
            VisionError: refused, not signed in, or not reached; :class:`GaveUpError` where repeating it did not help.
        """
        return self._content(self._repeated(lambda: self._exchange(method, path, query, body), _may_pass))

    def timed_call(self, method: str, path: str, body: bytes) -> tuple[Any, float]:
        """The same, with the milliseconds between the request and the end of its response, without any wait before."""
        response = self._repeated(lambda: self._exchange(method, path, None, body), _may_pass)
        return self._content(response), response.elapsed.total_seconds() * 1000

    def call_once(self, method: str, path: str, *, query: Query | None = None, body: Any = None) -> Any:
        """:meth:`call` of what must not be done twice: it is sent again only where it was certainly not done.

        Raises:
            VisionError: as :meth:`call`; :class:`BusyError` where it may have been done.
        """
        return self._content(self._repeated(lambda: self._exchange(method, path, query, body), _was_refused))

    def found_or_made(self, find: Callable[[], T | None], make: Callable[[], T]) -> T:
        """What exists, else what is made. It is looked for again, so that it is not made twice, where a response is lost or
        somebody else has made it in the meantime.

        Args:
            find: Looks for it by :meth:`call`.
            make: Makes it by :meth:`call_once`.

        Raises:
            VisionError: as :meth:`call`.
        """

        def once() -> T:
            if (found := find()) is not None:
                return found
            try:
                return make()
            except VisionError as error:
                if error.code in NOT_UNIQUE and (found := find()) is not None:
                    return found
                raise

        return self._repeated(once, _may_pass)

    def _repeated(self, action: Callable[[], T], may_pass: Callable[[BaseException], bool]) -> T:
        """What an action gives, which is done again while its errors may pass."""
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception(may_pass),
            wait=_pause,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return attempts(action)
        except BusyError as error:
            if may_pass is _was_refused and not error.was_refused:
                raise  # to be looked at by who knows whether it was done
            raise GaveUpError(error.message, error.hint, error.status, error.code) from error

    def pages(self, path: str, query: Query, size: int) -> Iterator[Any]:
        """The rows of a list that comes in pages of a size. Raises VisionError."""
        skip = 0
        while True:
            rows = self.call("GET", path, query={**query, "take": str(size), "skip": str(skip)})
            yield from rows
            if len(rows) < size:
                return
            skip += size

    def _exchange(self, method: str, path: str, query: Query | None, body: Any) -> httpx.Response:
        """One request, and its response if that is one of success."""
        sent: dict[str, Any] = {"json": body} if body is not None else {}
        headers = self._account.headers()
        if isinstance(body, bytes):
            sent = {"content": body}
            headers["Content-Type"] = "application/octet-stream"
        url = f"{self._account.url}/{path}"
        try:
            with self._limiter.call():
                response = self._http.request(method, url, params=query, headers=headers, **sent)
        except httpx.RequestError as error:
            raise self._lost(error) from error
        if not response.is_success:
            raise refusal(self._account, response)
        return response

    def _content(self, response: httpx.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise VisionError(
                f"the response of {self._account.endpoint} is not one of Custom Vision",
                f"check {self._account.variable('ENDPOINT')}",
                response.status_code,
            ) from error

    def _lost(self, error: httpx.RequestError) -> VisionError:
        host = urlsplit(self._account.url).hostname or ""
        if self._http.trust_env and (fault := silent_proxy(host)) is not None:
            return VisionError(f"Custom Vision is not reached: {fault[0]}", fault[1])
        told = unreached(self._account, str(error).rstrip(".") or type(error).__name__)
        # A name that is unknown, or refused by a proxy, or a certificate that is not trusted, is so the next time, too.
        is_lasting = isinstance(error, httpx.ProxyError) and str(error).startswith("4")
        if is_lasting or any(
            isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError) for cause in _causes(error)
        ):
            return VisionError(*told)
        busy = BusyError(*told)
        busy.was_refused = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
        return busy

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if state.attempt_number == 1 and isinstance(error, VisionError):
            self._say(f"{error.message}; trying again")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, BusyError) and (error.wait or 0) <= _LONGEST_PAUSE_S


def _was_refused(error: BaseException) -> bool:
    return _may_pass(error) and isinstance(error, BusyError) and error.was_refused


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, BusyError) else None
    return asked if asked is not None else 2.0 ** (state.attempt_number - 1)
